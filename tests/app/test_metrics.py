"""The metrics of certificates."""

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.service import Access
from hbtd.app.metrics import CertificateMetrics, make_registry
from hbtd.config.params import Params
from hbtd.net.client_credentials import ClientCredentials
from hbtd.net.served_certificate import serve_files
from tests.support.certificates import make_identity, write_identity
from tests.support.http_memory import APITestCase


class CertificateMetricsTests(SynchronousTestCase):
    """When the certificates expire that hbtd presents."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).resolve()
        self.served, self.own = folder / "served", folder / "own"
        cert, key = map(str, write_identity(make_identity("a", days=7), self.served))
        own = [str(path) for path in write_identity(make_identity("b", days=50), self.own)]
        self.access = Access(
            Params(kv_url="mem:"),
            Clock(),
            serve_files(cert, key),
            (),
            lambda: 0.0,
            [
                ClientCredentials("etcd", "--kv_ca", "system", "--kv_cert", *own),
                ClientCredentials("HSM", "--sm_ca", cert),
            ],
        )
        self.registry = make_registry(CertificateMetrics(self.access.presented))

    def expiry(self, name: str) -> float | None:
        """Return the value of the metric for a certificate."""
        metric = "hbtd_certificate_expiry_timestamp_seconds"
        return self.registry.get_sample_value(metric, {"certificate": name})

    def test_presented(self) -> None:
        """Those that are served, and presented to etcd, each have a time; it changes with them."""
        for name, days in (("served", 3), ("kv_cert", 40), ("served", 90), ("kv_cert", 2)):
            identity = make_identity(name, days=days)
            write_identity(identity, self.served if name == "served" else self.own)
            self.access.reload("a test")
            expected = identity.chain[0].not_valid_after_utc.timestamp()
            self.assertEqual(self.expiry(name), expected)
            self.assertGreater(expected, 1.7e9)

    def test_trusted(self) -> None:
        """Authorities, which are others' certificates, have none."""
        names = [name for name, _ in self.access.presented()]
        self.assertEqual(names, ["served", "kv_cert"])


class ServiceTests(APITestCase):
    """The metric of the whole service."""

    def test_without_tls(self) -> None:
        """Without TLS the metric is described, but has no values."""
        text = self.request("GET", "/metrics").body.decode()
        found = [line for line in text.splitlines() if "hbtd_certificate_expiry" in line]
        self.assertEqual([line[0] for line in found], ["#", "#"])
