"""Probes, health, metrics and the OpenAPI document over HTTP."""

from importlib.resources import files

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd import __version__
from hbtd.api.health import Health, HealthSources
from tests.support.http_memory import (
    HEARTBEAT,
    JSON,
    PREFIXES,
    XNAME,
    APITestCase,
    loopback_request,
    make_site,
)

METRICS = ("/metrics", *(f"{prefix}/metrics" for prefix in PREFIXES))


class ProbeTests(APITestCase):
    """Probes of orchestrators, and health."""

    def test_alive_and_ready(self):
        """Both probes are answered with an empty 204, under both prefixes."""
        for prefix in PREFIXES:
            for probe in ("liveness", "readiness"):
                response = self.request("GET", f"{prefix}/{probe}")
                self.assertEqual((response.status, response.body), (204, b""))
                self.assertEqual(set(response.headers), {"server", "date"})

    def test_store_out_of_use(self):
        """While the store can't be used, hbtd is alive but not ready, and gives the reason."""
        self.service.store.close()
        self.reactor.advance(5)
        response = self.request("GET", "/v1/readiness")
        self.assert_problem(response, 503, self.service.store.health(), "/hmi/v1/readiness")
        self.assertEqual(self.request("GET", "/v1/liveness").status, 204)
        health = self.request("GET", "/v1/health")
        self.assertEqual(health.status, 200)
        said = self.service.store.health()
        self.assertEqual(health.json()["KvStore"], said)
        self.assertRegex(health.json()["KvStoreReason"], rf"^since 20\S+: {said}$")
        self.service.store.open()
        self.assertNotIn("KvStoreReason", self.request("GET", "/v1/health").json())
        self.assertEqual(self.request("GET", "/v1/readiness").status, 204)

    def test_heartbeats_without_store(self):
        """Heartbeats are taken while the store can't be used."""
        self.service.store.close()
        self.assertEqual(self.request("POST", "/v1/heartbeat", HEARTBEAT).status, 200)

    def test_health(self):
        """Health is three texts in order, here of a service with nosm, and why one is not well."""
        for prefix in PREFIXES:
            response = self.request("GET", f"{prefix}/health")
            self.assertEqual((response.status, response.content_type), (200, JSON))
            self.assertEqual(
                response.body,
                b'{"KvStore":"Initialization key present: HBTD_OK",'
                b'"MsgBus":"Not Connected","HsmStatus":"Not ready",'
                b'"MsgBusReason":"%s","HsmStatusReason":"nosm is set"}'
                % response.json()["MsgBusReason"].encode(),
            )
            self.assertRegex(
                response.json()["MsgBusReason"],
                r"^since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00: no telemetry_host is given$",
            )


class HealthTextTests(SynchronousTestCase):
    """The sources of the health texts."""

    def test_texts(self):
        """Each key has the current text of its source."""
        said = {"KvStore": "a", "MsgBus": "b", "HsmStatus": "c"}
        sources = HealthSources(
            lambda: bool(said["KvStore"]),
            lambda: said["KvStore"],
            lambda: said["MsgBus"],
            lambda: said["HsmStatus"],
        )
        site = make_site(Health(sources, CollectorRegistry()).routes(), Clock())
        for bus in ("Connected and OPEN", "Connected and CLOSED", "Not Connected", '"é"\n'):
            said.update(MsgBus=bus, HsmStatus="Ready")
            response = loopback_request(site, "GET", "/v1/health")
            self.assertEqual(response.body, orjson.dumps(said))


class MetricsTests(APITestCase):
    """The metrics that Prometheus reads."""

    def families(self, path="/metrics"):
        """Return the parsed metrics."""
        response = self.request("GET", path)
        self.assertEqual(response.status, 200)
        self.assertRegex(response.content_type or "", r"^text/plain; version=\d")
        return list(text_string_to_metric_families(response.body.decode()))

    def value(self, name, **labels):
        """Return the value of one metric."""
        (value,) = (
            sample.value
            for family in self.families()
            for sample in family.samples
            if (sample.name, sample.labels) == (name, labels)
        )
        return value

    def test_no_duplicates(self):
        """Each metric is there once, with a help text, at all three paths."""
        for path in METRICS:
            families = self.families(path)
            names = [family.name for family in families]
            self.assertEqual(len(names), len(set(names)), names)
            self.assertTrue(all(family.documentation for family in families))
            samples = [
                (sample.name, tuple(sorted(sample.labels.items())))
                for family in families
                for sample in family.samples
            ]
            self.assertEqual(len(samples), len(set(samples)), samples)
            self.assertTrue({"hbtd_heartbeats", "process_open_fds"} <= set(names), names)

    def test_heartbeats_count(self):
        """Heartbeats and components are counted, refused heartbeats are not."""
        for body in (HEARTBEAT, HEARTBEAT, {**HEARTBEAT, "NID": "x"}):
            self.request("POST", "/v1/heartbeat", body)
        self.assertEqual(self.value("hbtd_heartbeats_total"), 2)
        self.assertEqual(self.value("hbtd_components", state="healthy"), 1)
        self.assertEqual(self.value("hbtd_components", state="dead"), 0)
        self.assertEqual(self.value("hbtd_transitions_total", transition="started"), 1)
        self.request("DELETE", f"/v1/heartbeat/{XNAME}")
        self.assertEqual(self.value("hbtd_components", state="healthy"), 0)

    def test_telemetry(self):
        """A metric shows whether Kafka is to be told anything, changes included."""
        self.assertEqual(self.value("hbtd_kafka_enabled"), 0)
        self.service.params.patch({"telemetry_host": "kafka.example:9092:topic"})
        self.assertEqual(self.value("hbtd_kafka_enabled"), 0)
        self.service.params.patch({"use_telemetry": "1"})
        self.assertEqual(self.value("hbtd_kafka_enabled"), 1)

    def test_store(self):
        """A metric shows whether the store can be used."""
        self.assertEqual(self.value("hbtd_store_usable"), 1)
        self.service.store.close()
        self.assertEqual(self.value("hbtd_store_usable"), 0)


class DocumentTests(APITestCase):
    """The OpenAPI document."""

    def test_served(self):
        """The document is served under both prefixes, with the version, without white space."""
        document = orjson.loads(files("hbtd.api").joinpath("openapi.json").read_bytes())
        self.assertEqual(document["info"]["version"], "")
        document["info"]["version"] = __version__
        for prefix in PREFIXES:
            response = self.request("GET", f"{prefix}/openapi.json")
            self.assertEqual((response.status, response.content_type), (200, JSON))
            self.assertEqual(response.json(), document)
            self.assertNotIn(b"\n", response.body)
