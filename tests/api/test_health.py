"""Probes, health, metrics and the OpenAPI document over HTTP."""

from importlib.resources import files

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd import __version__
from hbtd.api.health import Health, HealthSources
from hbtd.app.hindrances import causes_of
from hbtd.queries.hindrances import recent
from hbtd.replicas.alone import Alone
from hbtd.replicas.sign_of_life import Waiting
from hbtd.server.overload import Overload
from hbtd.store.checkpointer import Checkpointer
from hbtd.tracker.gaps import GapKind
from hbtd.tracker.hindrances import Hindrance, TroubleKind
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


class HindranceTests(APITestCase):
    """What hinders hbtd, as health, internals and metrics say."""

    def hindrances(self) -> list[dict[str, object]]:
        """Return the troubles that health lists, without their times.

        Gaps are left out, as the tests' own host may be slow.
        """
        troubles = [kind.value for kind in TroubleKind]
        listed = self.request("GET", "/v1/health").json().get("Hindrances", [])
        found = [each for each in listed if each["Kind"] in troubles]
        for each in found:
            self.assertRegex(each.pop("Begin"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            each["End"] = each["End"] is not None
            each.pop("Seconds")
        return list(found)

    def value(self, name: str, kind: str) -> float | None:
        """Return the value of a metric, with a kind of hindrance."""
        value = self.service.views.registry.get_sample_value(name, {"kind": kind})
        return None if value is None else float(value)

    def test_turned_away(self) -> None:
        """Addresses that were turned away are a hindrance for Errtime, and counted."""
        self.assertEqual(self.hindrances(), [])
        for number in range(3):
            self.service.core.scheduler.not_heard(f"10.0.0.{number}")
        self.service.core.scheduler.not_heard("10.0.0.1")
        self.reactor.pump([1.0] * 20)
        said = {
            "Kind": "turned_away",
            "Cause": "clients at 3 addresses were turned away or gave up in the last 30 s",
        }
        self.assertEqual(self.hindrances(), [{**said, "End": False}])
        self.reactor.pump([1.0] * 15)
        self.assertEqual(self.hindrances(), [{**said, "End": True}])
        self.assertEqual(self.value("hbtd_hindrances_total", "turned_away"), 1)
        self.assertEqual(self.value("hbtd_hindrances_total", "overload"), 0)

    def test_store(self) -> None:
        """A store that can't be used is one, and listed for all that comes later."""
        self.service.store.close()
        self.reactor.pump([1.0] * 5)
        self.service.store.open()
        self.reactor.pump([1.0] * 5)
        said = {"Kind": "store", "Cause": "Not initialized", "End": True}
        self.assertEqual(self.hindrances(), [said])
        (listed,) = [
            each
            for each in self.request("GET", "/v1/internals").json()["Hindrances"]
            if each["Kind"] == "store"
        ]
        self.assertEqual(listed["Cause"], "Not initialized")

    def test_others(self) -> None:
        """So are an overload, a store that is late, and heartbeats that wait elsewhere."""
        core = self.service.core
        for owner, name, value in (
            (Overload, "reason", "a connection has waited for its turn for 0.8 s"),
            (Checkpointer, "slow", True),
            (Checkpointer, "behind", 7.4),
            (Alone, "waiting_elsewhere", {1: Waiting(everybody=True)}),
        ):
            self.patch(owner, name, value)
        found = {kind.value: cause() for kind, cause in causes_of(core).items()}
        self.assertEqual(
            found,
            {
                "overload": "a connection has waited for its turn for 0.8 s",
                "turned_away": None,
                "elsewhere": "heartbeats may wait at 1 other replica",
                "store": None,
                "slow_store": "heartbeats of the last 7 s have yet to be stored",
            },
        )
        core.store.close()
        self.assertIsNone(causes_of(core)[TroubleKind.SLOW_STORE]())

    def test_gap(self) -> None:
        """Gaps of the observed clock are counted by kind, with their seconds."""
        self.service.core.observed.deafen(0.0, "a test")
        self.assertEqual(self.value("hbtd_hindrances_total", "deafen"), 0)
        self.reactor.pump([0.1] * 2)
        self.assertEqual(self.value("hbtd_hindrances_total", "deafen"), 1)
        seconds = self.value("hbtd_hindrance_seconds_total", "deafen")
        assert seconds is not None
        self.assertGreater(seconds, 0.0)


class RecentTests(SynchronousTestCase):
    """Which hindrances health lists."""

    def test_recent(self) -> None:
        """Those that last, and those of a second or more that ended within ten minutes; twenty."""
        now = 1.8e9
        lasting = Hindrance(now - 7200, 7200.0, GapKind.DEAFEN, "a", lasts=True)
        listed = Hindrance(now - 610, 11.0, GapKind.STALL, "b", lasts=False)
        short = Hindrance(now - 10, 0.9, GapKind.STALL, "c", lasts=False)
        old = Hindrance(now - 610, 9.0, TroubleKind.STORE, "d", lasts=False)
        start = Hindrance(now - 10, 5.0, GapKind.START, "e", lasts=False)
        self.assertEqual(recent([lasting, listed, short, old, start], now), [lasting, listed])
        self.assertEqual(len(recent([listed] * 30, now)), 20)


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
