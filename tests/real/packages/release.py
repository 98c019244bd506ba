"""What `make release` makes besides packages, and that it makes it the same each time."""

import hashlib
import json
import re
import subprocess
import tarfile
from pathlib import Path

from packaging.tags import Tag, compatible_tags, cpython_tags
from twisted.trial.unittest import SynchronousTestCase

from hbtd import __version__
from release.environment import PYTHON
from release.lock import chosen, locked, platforms
from release.wheelhouse import PYTHONS
from tests.support.packages_built import AGENT, everything, made_elsewhere
from tests.support.processes import CHECKOUT
from tests.support.systemd_root import SystemdRoot


class ReleaseTests(SynchronousTestCase):
    """The files in `dist/`."""

    def setUp(self) -> None:
        """Make them, for all tests together."""
        self.made = everything()

    def test_files(self):
        """Everything is there, with its hash, and its name has the version."""
        names = {path.name for path in self.made.iterdir()} - {"SHA256SUMS"}
        self.assertEqual({name for name in names if f"-{__version__}" not in name}, DEBS)
        self.assertEqual(len(names), 7 + 2 * AGENT, names)
        lines = (self.made / "SHA256SUMS").read_text().splitlines()
        sums = {name: sum_ for sum_, name in (line.split("  ") for line in lines)}
        self.assertEqual(set(sums), names)
        for name, expected in sums.items():
            self.assertEqual(hashlib.sha256((self.made / name).read_bytes()).hexdigest(), expected)

    def test_again(self):
        """Made from the same sources elsewhere, packages are the same to the byte."""
        again = made_elsewhere()
        for path in again.iterdir():
            self.assertEqual(path.read_bytes(), (self.made / path.name).read_bytes(), path.name)
        self.assertEqual(len(list(again.iterdir())), 2 + 2 * AGENT)

    def test_contents(self):
        """The list of contents has hbtd and exactly what is locked, and no path of this host."""
        text = (self.made / f"hbtd-{__version__}.cdx.json").read_text()
        listed = {
            (re.sub(r"[-_.]+", "-", each["name"]).lower(), each["version"])
            for each in json.loads(text)["components"]
        }
        lock = (CHECKOUT / "requirements" / "run.txt").read_text()
        wanted = {(each.name, each.version) for each in locked(lock, "3.11")}
        self.assertEqual(listed, {*wanted, ("hbtd", __version__)})
        self.assertNotIn("/hbtd-packages", text)

    def test_sources(self):
        """The source archive has what it takes to test, package and install hbtd."""
        with tarfile.open(self.made / f"hbtd-{__version__}.tar.gz") as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        for name in (
            *("Makefile", "release/layout.py", "deploy/systemd/hbtd.service", "Dockerfile"),
            *("deploy/packages/hbtd.yaml", "requirements/run.txt", "docs/operations.md"),
        ):
            self.assertIn(name, names)


DEBS = {f"hbtd_{__version__}-1_amd64.deb", *([f"hbtd-agent_{__version__}-1_all.deb"] * AGENT)}


class WheelhouseTests(SynchronousTestCase):
    """The archive for hosts without network."""

    def setUp(self) -> None:
        """Unpack it where a system can see it."""
        (archive,) = everything().glob("*wheelhouse*")
        self.unpacked = Path(self.mktemp()).resolve()
        with tarfile.open(archive) as file:
            file.extractall(self.unpacked, filter="data")
        (self.directory,) = self.unpacked.iterdir()

    def test_pythons(self):
        """There is a wheel of each package for each Python that hbtd supports."""
        lock = (self.directory / "requirements.txt").read_text()
        for python in PYTHONS:
            version = tuple(int(each) for each in python.split("."))
            tags: list[Tag] = [*cpython_tags(version, platforms=platforms())]
            tags += compatible_tags(version, f"cp{python.replace('.', '')}", platforms())
            wheels = chosen(locked(lock, python), self.directory / "wheels", tags)
            self.assertEqual(len(wheels), len(locked(lock, python)))

    def install(self, system: SystemdRoot, *arguments: str) -> tuple[int, str]:
        """Run `install.sh` in a system without network."""
        return system.status(f"/wheelhouse/{self.directory.name}/install.sh", *arguments)

    def test_life(self):
        """Hbtd is installed without network, starts, is installed once more, and removed."""
        system = SystemdRoot(self, {self.unpacked: "/wheelhouse"})
        status, said = self.install(system)
        self.assertEqual(status, 0, said)
        self.assertEqual(system.run("/usr/local/bin/hbtd", "--version"), f"hbtd {__version__}")
        self.assertEqual(system.run("stat", "-c", "%U:%G", "/etc/hbtd"), "root:hbtd")
        before = system.run("cat", "/etc/hbtd/hbtd.env")
        system.write("/etc/hbtd/hbtd.env", f"HBTD_NOSM=yes\nHBTD_USE_TELEMETRY=no\n{before}\n")
        system.run("systemctl", "enable", "--now", "hbtd")
        serves = f"hbtd {__version__} serves"
        system.until(lambda: serves in system.journal("hbtd"), unit="hbtd")
        status, said = self.install(system)
        self.assertEqual(status, 0, said)
        self.assertIn("/etc/hbtd/hbtd.env has been edited and is kept", said)
        self.assertIn("HBTD_NOSM=yes", system.run("cat", "/etc/hbtd/hbtd.env"))
        self.assertEqual(system.run("cat", "/etc/hbtd/hbtd.env.new"), before)
        system.run("systemctl", "restart", "hbtd")
        system.until(lambda: system.journal("hbtd").count(serves) == 2, unit="hbtd")

        status, said = self.install(system, "uninstall")
        self.assertEqual(status, 0, said)
        self.assertEqual(system.run("systemctl", "is-active", "hbtd", check=False), "inactive")
        left = system.run("find", "/opt", "/usr/local", "/etc/hbtd", "-type", "f")
        self.assertEqual(left, "/etc/hbtd/hbtd.env")
        self.assertNotIn("hbtd", system.run("systemctl", "list-unit-files", "--no-legend"))
        self.assertEqual(system.status("test", "-f", "/var/lib/hbtd/hbtd.sqlite")[0], 0)

    def test_tampered(self):
        """A wheel that is not the one that is locked is not installed, and nothing else is."""
        wheel = next(self.directory.glob("wheels/klein-*.whl"))
        wheel.write_bytes(wheel.read_bytes() + b"\n")
        system = SystemdRoot(self, {self.unpacked: "/wheelhouse"})
        status, said = self.install(system)
        self.assertEqual((status, said.count("\n")), (1, 0))
        self.assertIn(f"wheels/{wheel.name} is not the file that is locked", said)
        self.assertEqual(system.run("find", "/opt", "/etc", "/usr/local", "-name", "*hbtd*"), "")

    def test_incomplete(self):
        """A wheel that is missing is named in one line."""
        next(self.directory.glob("wheels/klein-*.whl")).unlink()
        done = subprocess.run(
            [self.directory / "install.sh", "install", f"--destdir={self.mktemp()}"],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "PYTHON": f"/usr/bin/python{PYTHON}"},
        )
        self.assertEqual(done.returncode, 1)
        self.assertRegex(
            done.stderr, r"^release install: wheels has no wheel of klein [\d.]+ .*\n$"
        )

    def test_no_python(self):
        """Without a Python that will do, one line says which would."""
        done = subprocess.run(
            [self.directory / "install.sh"],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "PYTHON": "/usr/bin/python3.1"},
        )
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^hbtd needs Python 3.10, .*\n$")


class MakeTests(SynchronousTestCase):
    """`make install`, with DESTDIR, PREFIX and ENVDIR."""

    def test_directory(self):
        """What is below DESTDIR knows nothing of it; removing leaves nothing but edited options."""
        everything()  # skips the test where nothing can be made
        root = Path(self.mktemp()).resolve()
        where = {"DESTDIR": str(root), "PREFIX": "/usr", "ENVDIR": "/srv/heart beat"}
        self.assertIn("must be an absolute path without spaces", self.make("install", where, 2))
        where["ENVDIR"] = "/srv/hbtd"
        self.make("install", where)
        unit = (root / "usr/lib/systemd/system/hbtd.service").read_text()
        self.assertIn("\nExecStart=/srv/hbtd/bin/hbtd\n", unit)
        self.assertNotIn("/opt/hbtd/", unit)
        self.assertEqual((root / "usr/bin/hbtd").readlink(), Path("/srv/hbtd/bin/hbtd"))
        traces = subprocess.run(["grep", "-rl", str(root), root], capture_output=True, text=True)
        self.assertEqual(traces.stdout, "")
        options = root / "etc/hbtd/hbtd.env"
        options.write_text("# Edited.\n")
        self.make("install", where)
        self.assertEqual(options.read_text(), "# Edited.\n")
        self.make("uninstall", where)
        self.assertEqual([path for path in root.rglob("*") if not path.is_dir()], [options])

    def make(self, target: str, variables: dict[str, str], status: int = 0) -> str:
        """Run make; return what it has printed."""
        done = subprocess.run(
            ["make", target, *(f"{name}={value}" for name, value in variables.items())],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.assertEqual(done.returncode, status, done.stdout)
        return done.stdout
