"""The metrics of certificates."""

import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.service import Access
from hbtd.app.metrics import CertificateMetrics, make_registry
from hbtd.config.params import Params
from hbtd.net.client_credentials import ClientCredentials
from hbtd.net.served_certificate import ClientFiles, ServedCertificate, serve_files
from tests.support.certificates import (
    make_identity,
    revocation_list,
    write_identity,
    write_lists,
)
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
        self.registry = make_registry(
            CertificateMetrics(self.access.presented, self.access.next_update, self.access.unusable)
        )

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

    def test_unusable(self) -> None:
        """Certificates that can't be used as they are now are counted, until they can be."""

        def count() -> float | None:
            return self.registry.get_sample_value("hbtd_files_unusable")

        self.assertEqual(count(), 0)
        kept = [(each / "cert.pem").read_bytes() for each in (self.served, self.own)]
        # HSM is trusted by what is served, too.
        for folder, number in ((self.own, 1), (self.served, 3)):
            (folder / "cert.pem").write_text("no certificate")
            self.access.reload("a test")
            self.assertEqual(count(), number)
        for folder, content in zip((self.served, self.own), kept, strict=True):
            (folder / "cert.pem").write_bytes(content)
        self.access.reload("a test")
        self.assertEqual(count(), 0)


class RevocationListTests(SynchronousTestCase):
    """When the revocation lists of clients have to be renewed."""

    def test_first(self) -> None:
        """The metric is the time of the first one; without lists there is none."""
        folder = Path(self.mktemp()).resolve()
        cert, key = map(str, write_identity(make_identity("a"), folder))
        one, other = (make_identity(name) for name in ("one", "other"))
        trusted = folder / "authorities"
        trusted.write_bytes(
            b"".join(each.chain[0].public_bytes(Encoding.PEM) for each in (one, other))
        )
        lists = folder / "lists"

        def value(first: float, second: float) -> float | None:
            write_lists(
                lists, revocation_list(one, days=first), revocation_list(other, days=second)
            )
            return self.value(serve_files(cert, key, ClientFiles(str(trusted), str(lists))))

        for days in ((3, 1), (1, 2), (-1, 3)):
            found = value(*days)
            assert found is not None
            self.assertLess(abs(found - time.time() - min(days) * 86400), 60)
        self.assertIsNone(self.value(serve_files(cert, key, ClientFiles(str(trusted)))))
        self.assertIsNone(self.value(None))

    def value(self, served: ServedCertificate | None) -> float | None:
        """Return the value of the metric."""
        access = Access(Params(kv_url="mem:"), Clock(), served, (), lambda: 0.0)
        registry = make_registry(
            CertificateMetrics(access.presented, access.next_update, access.unusable)
        )
        return registry.get_sample_value("hbtd_revocation_list_expiry_timestamp_seconds")


class ServiceTests(APITestCase):
    """The metric of the whole service."""

    def test_without_tls(self) -> None:
        """Without TLS the metric is described, but has no values."""
        text = self.request("GET", "/metrics").body.decode()
        found = [line for line in text.splitlines() if "hbtd_certificate_expiry" in line]
        self.assertEqual([line[0] for line in found], ["#", "#"])
