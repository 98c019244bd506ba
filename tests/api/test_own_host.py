"""Which values of the `Host` header name this host."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hbtd.api.own_host import names_own_host, read_own_names

NAMES = frozenset({"admin1", "admin1.site.example"})


class HostTests(SynchronousTestCase):
    """Values of the `Host` header."""

    def test_own(self) -> None:
        """Loopback addresses and the host's names are its own, in any case, with any port."""
        for host in (
            *("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.8.9.10", "[::1]"),
            *("[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"),
            *("admin1", "Admin1.Site.Example", "admin1.site.example."),
        ):
            for port in ("", ":", ":28500"):
                self.assertTrue(names_own_host(host + port, NAMES), host + port)

    def test_others(self) -> None:
        """Any other name or address is another host's, however much it looks alike."""
        for host in (
            *("", ".", ":28500", "evil.example", "hbtd.example:28500", "localhost.evil.example"),
            *("localhost..", "evil.localhost", "admin1.evil.example", "127.0.0.1.evil.example"),
            *("192.0.2.1", "10.0.0.1:28500", "0.0.0.0", "[::]", "[2001:db8::1]", "::1", "[::1"),
            *("[localhost]", "localhost:28500:1", "localhost:x", "evil@localhost", "x, localhost"),
            *("localhost evil", "localhost/", "127.1", "2130706433", "[::1]evil", "lo\xe7alhost"),
        ):
            self.assertFalse(names_own_host(host, NAMES), host)


class NamesTests(SynchronousTestCase):
    """The names of a host."""

    def setUp(self):
        self.path = Path(self.mktemp())

    def test_beside(self) -> None:
        """The names in the lines of the hosts file that have the hostname are the host's own."""
        self.path.write_text(
            "127.0.0.1\tlocalhost\n# 127.0.1.1 no admin1\n\n10.0.0.9 other other.site.example\n"
            "127.0.1.1 Admin1.Site.Example admin1  # not admin1.evil.example\n::1 ip6 admin1\n"
        )
        self.assertEqual(read_own_names("ADMIN1", self.path), NAMES | {"ip6"})
        self.assertEqual(read_own_names("10.0.0.9", self.path), {"10.0.0.9"})

    def test_alone(self) -> None:
        """Without a hosts file, or a line in it, the hostname is the only name."""
        self.assertEqual(read_own_names("admin1", self.path), {"admin1"})
        self.path.write_bytes(b"127.0.0.1 localhost\n\xff\xfe\n")
        self.assertEqual(read_own_names("admin1", self.path), {"admin1"})
        self.assertEqual(read_own_names("", self.path), frozenset())
