"""Chains of certificates: which faults they have, and whether OpenSSL agrees."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import product

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import crypto
from twisted.trial.unittest import SynchronousTestCase

from hbtd.net.chains import Fault, expiring_authorities, expiring_chain, find_fault
from tests.support.certificates import certify, make_identity, old_root_chain

TIMES = {"valid": (-2.0, 1.0), "expired": (-2.0, -1.0), "early": (0.5, 1.0)}
"""When certificates begin and end to be valid, in days from now."""

NAMES = ("server", "low", "middle", "high", "root")


def accepted(chain: Sequence[x509.Certificate], trusted: x509.Certificate) -> bool:
    """Return whether OpenSSL, which trusts one certificate, verifies a chain."""
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(trusted))
    own, *others = [crypto.X509.from_cryptography(each) for each in chain]
    try:
        crypto.X509StoreContext(store, own, others).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


class FaultTests(SynchronousTestCase):
    """Chains of all shapes."""

    def setUp(self) -> None:
        self.now = datetime.now(timezone.utc)
        self.keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in NAMES}

    def certificate(self, place: int, kind: str = "valid") -> x509.Certificate:
        """Return the certificate at a place of the chain; the next one has signed it."""
        begins, days = TIMES[kind]
        name, issuer = NAMES[place], NAMES[place + 1]
        keys = self.keys[name], self.keys[issuer]
        return certify(name, keys[0], issuer, keys[1], begins=begins, days=days, ca=place > 0)

    def anchors(self) -> Iterator[x509.Certificate]:
        """Return what clients may trust: a certificate of each authority, signed by itself."""
        for name in NAMES[1:]:
            yield certify(name, self.keys[name], name, self.keys[name])

    def test_every_chain(self) -> None:
        """A chain is sound if its first certificates are valid, and none after one that isn't.

        Then some client accepts it, and one whose first certificate is not valid no client does.
        """
        made = {
            (place, kind): self.certificate(place, kind) for place in range(4) for kind in TIMES
        }
        anchors = list(self.anchors())
        for length in (1, 2, 3, 4):
            for kinds in product(TIMES, repeat=length):
                chain = [made[place, kind] for place, kind in enumerate(kinds)]
                valid = [kind == "valid" for kind in kinds]
                sound = valid[0] and valid == sorted(valid, reverse=True)
                fault = find_fault(chain, self.now)
                self.assertEqual(fault is None, sound, kinds)
                accepting = [anchor for anchor in anchors if accepted(chain, anchor)]
                self.assertEqual(bool(accepting), valid[0], kinds)
                if fault is not None:
                    self.assertFalse(valid[fault.place], kinds)

    def test_reasons(self) -> None:
        """A fault says which certificate it is, and when its time is or was."""
        late, early = self.certificate(0, "expired"), self.certificate(0, "early")
        expires, begins = late.not_valid_after_utc, early.not_valid_before_utc
        self.assertEqual(
            find_fault([late], self.now), Fault(0, f"expired on {expires.isoformat()}")
        )
        self.assertEqual(
            find_fault([early], self.now), Fault(0, f"is not valid before {begins.isoformat()}")
        )
        gap = [self.certificate(0), self.certificate(1, "expired"), self.certificate(2)]
        fault = find_fault(gap, self.now)
        assert fault is not None
        self.assertEqual(fault.place, 1)

    def test_alternative(self) -> None:
        """An expired issuer is no fault if the chain has a newer certificate of it."""
        low = [self.certificate(1, "expired"), self.certificate(1)]
        for pair in (low, low[::-1]):
            chain = [self.certificate(0), *pair, self.certificate(2)]
            self.assertIsNone(find_fault(chain, self.now))

    def test_strangers(self) -> None:
        """A certificate that has issued none of those before it is a fault, valid or not."""
        root = make_identity("root")
        own = make_identity("localhost", root).chain[0]
        for days in (1.0, -1.0):
            (stranger,) = make_identity("stranger", days=days).chain
            for chain in ([own, stranger], [own, *root.chain, stranger]):
                fault = find_fault(chain, self.now)
                assert fault is not None
                self.assertEqual(fault.place, len(chain) - 1)
                self.assertIn("has issued none of those before it", fault.why)
                self.assertEqual("expired" in fault.why, days < 0)

    def test_old_root(self) -> None:
        """A chain with an expired certificate of the root is sound; clients with a newer accept it.

        Clients that trust only the old root do not.
        """
        server, root = old_root_chain()
        self.assertIsNone(find_fault(server.chain, self.now))
        self.assertTrue(accepted(server.chain, root))


class ExpiringTests(SynchronousTestCase):
    """What is said of certificates that expire."""

    def test_chain(self) -> None:
        """Each certificate of a chain is described; only the first one is severe."""
        server, _ = old_root_chain()
        found = list(expiring_chain(server.chain, "hbtd's certificate", "Renew it.", "clients"))
        self.assertEqual([each.certificate for each in found], server.chain)
        self.assertEqual([each.severe for each in found], [True, False, False])
        self.assertEqual(
            [each.what for each in found],
            [
                "hbtd's certificate",
                "Certificate 2 in the chain of hbtd's certificate (CN=middle)",
                "Certificate 3 in the chain of hbtd's certificate (CN=root)",
            ],
        )

    def test_authorities(self) -> None:
        """An authority is severe if it is the only one; long names are shortened."""
        (one,), (other,) = make_identity("one").chain, make_identity("x" * 64).chain
        self.assertEqual([e.severe for e in expiring_authorities([one], "--sm_ca", "")], [True])
        found = list(expiring_authorities([one, other], "--sm_ca", ""))
        self.assertEqual([each.severe for each in found], [False, False])
        self.assertEqual(found[0].what, "The authority CN=one in --sm_ca")
