"""The `.deb` and the `.rpm`, from the installation to the removal, under a real systemd."""

from twisted.trial.unittest import SkipTest

from tests.support import packages_contract
from tests.support.packages_contract import ENV
from tests.support.systemd_root import DEBIAN


class DebTests(packages_contract.PackagesContract):
    """The `.deb`, by dpkg, which checks what it depends on."""

    kind, beside, saved = "deb", ".dpkg-dist", ""

    def install(self, path: str) -> None:
        """Install a package."""
        self.sh("dpkg", "--install", path)

    def upgrade(self, path: str) -> None:
        """Install a newer one, without being asked about edited files."""
        self.sh("dpkg", "--install", "--force-confdef", "--force-confold", path)

    def remove(self) -> None:
        """Remove the package."""
        self.sh("dpkg", "--remove", "hbtd")

    def test_purged(self):
        """After a purge, options and records are gone, too, but not files of whoever runs it."""
        self.install(self.old)
        self.start()
        self.sh("touch", "/etc/hbtd/key.pem")
        self.sh("dpkg", "--purge", "hbtd")
        self.assertFalse(self.exists("/var/lib/hbtd"))
        self.assertEqual(self.sh("find", "/etc/hbtd", "-type", "f"), "/etc/hbtd/key.pem")

    def test_owned(self):
        """Dpkg knows each file, and finds none changed while hbtd runs."""
        self.install(self.old)
        self.start()
        self.hbtctl("status")
        self.assertRegex(self.sh("dpkg", "--verify", "hbtd", check=False), rf"^\S+ c {ENV}$")
        listed = set(self.sh("dpkg", "-L", "hbtd").splitlines())
        self.assertEqual(set(self.sh("find", "/opt/hbtd").splitlines()) - listed, set())
        # Debian's zsh looks there and not where others do.
        vendor = "/usr/share/zsh/vendor-completions/_hbtctl"
        self.assertIn("#compdef hbtctl", self.sh("cat", vendor))


class RpmTests(packages_contract.PackagesContract):
    """The `.rpm`, by rpm, whose database does not know what Debian has installed."""

    kind, beside, saved = "rpm", ".rpmnew", ".rpmsave"

    def setUp(self) -> None:
        """Skip the test if the system is one without rpm."""
        if not (DEBIAN / "usr" / "bin" / "rpm").exists():
            raise SkipTest("The Debian root has no rpm: make systemd-root makes it anew.")
        super().setUp()

    def install(self, path: str) -> None:
        """Install a package."""
        self.sh("rpm", "--install", "--nodeps", path)

    def upgrade(self, path: str) -> None:
        """Install a newer one."""
        self.sh("rpm", "--upgrade", "--nodeps", path)

    def remove(self) -> None:
        """Remove the package."""
        self.sh("rpm", "--erase", "hbtd")

    def test_requirements(self):
        """It needs the very Python that it was made for, which has other names elsewhere."""
        needs = self.sh("rpm", "-qp", "--requires", self.old).splitlines()
        self.install(self.old)
        self.assertIn(self.python().replace("/opt/hbtd", "/usr"), needs)
        self.assertIn("libc.so.6(GLIBC_2.28)(64bit)", needs)

    def test_owned(self):
        """Rpm knows each file, and finds none changed while hbtd runs."""
        self.install(self.old)
        self.start()
        self.hbtctl("status")
        changed = self.sh("rpm", "--verify", "--nodeps", "hbtd", check=False).splitlines()
        self.assertEqual([each.split()[-1] for each in changed], [ENV])
        listed = set(self.sh("rpm", "-ql", "hbtd").splitlines())
        found = set(self.sh("find", "/opt/hbtd", "!", "-type", "d").splitlines())
        self.assertEqual(found - listed, set())
