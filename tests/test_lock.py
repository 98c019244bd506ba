"""The lock files have what setup.cfg asks for."""

import re
from configparser import ConfigParser

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.trial.unittest import SynchronousTestCase

from tests.support.image import instructions
from tests.support.processes import CHECKOUT

LOCKS = CHECKOUT / "requirements"


def _asked_for(*extras: str) -> dict[str, Requirement]:
    """Return the requirements in setup.cfg, of hbtd and of some of its extras, by name."""
    config = ConfigParser(interpolation=None)
    config.read(CHECKOUT / "setup.cfg")
    lines = config["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += config["options.extras_require"][extra].splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def _locked(name: str) -> dict[str, list[str]]:
    """Return the versions in a lock file by package; there may be one for each Python."""
    versions: dict[str, list[str]] = {}
    for package, version in re.findall(r"^([a-z0-9-]+)==(\S+)", _text(name), re.MULTILINE):
        versions.setdefault(package, []).append(version)
    return versions


def _text(name: str) -> str:
    return (LOCKS / name).read_text()


class LockTests(SynchronousTestCase):
    """`make lock` was run after the last change of what hbtd depends on."""

    def assert_current(self, name: str, *extras: str) -> None:
        """Assert that a lock file was made from the requirements as they are."""
        asked, locked = _asked_for(*extras), _locked(name)
        direct = set()
        for block in re.split(r"^(?=[a-z])", _text(name), flags=re.MULTILINE):
            if "hbtd (setup.cfg)" in block:
                direct.add(block.partition("==")[0])
        self.assertEqual(direct, set(asked), f"{name} is out of date: run `make lock`")
        for package, requirement in asked.items():
            for version in locked[package]:
                self.assertIn(version, requirement.specifier, f"{package}: run `make lock`")

    def test_run(self) -> None:
        """What the container image installs is what hbtd requires, in versions that it allows."""
        self.assert_current("run.txt")

    def test_image(self) -> None:
        """Each package from outside that is installed into the image has to have its hash."""
        dockerfile = (CHECKOUT / "Dockerfile").read_text()
        runs = [rest for word, rest in instructions(dockerfile) if word == "RUN"]
        commands = [each.split() for run in runs for each in run.split("&&")]
        installs = [words for words in commands if "install" in words and "apt-get" not in words]
        files = set()
        for words in installs:
            if "--requirement" in words:
                self.assertIn("--require-hashes", words)
                files.add(words[words.index("--requirement") + 1])
            else:
                self.assertIn("--no-deps", words)
                self.assertEqual(words[-1], "/dist/hbtd-*.whl")
        self.assertEqual(files, {"requirements/tools.txt", "requirements/run.txt"})

    def test_develop(self) -> None:
        """What `make venv` installs is what hbtd and its extras for development require."""
        self.assert_current("develop.txt", "test", "check")

    def test_release(self) -> None:
        """What `make release` installs is what hbtd and its extra `release` require."""
        self.assert_current("release.txt", "release")

    def test_agreement(self) -> None:
        """Development and releases use the versions that the container image has."""
        develop, release = _locked("develop.txt"), _locked("release.txt")
        for package, versions in _locked("run.txt").items():
            self.assertEqual(versions, develop[package], package)
            self.assertEqual(versions, release[package], package)

    def test_hashes(self) -> None:
        """Every package has hashes, and no lock file names the index it was made from."""
        for name in ("tools.txt", "run.txt", "develop.txt", "release.txt", "container.txt"):
            blocks = re.split(r"^(?=[a-z])", _text(name), flags=re.MULTILINE)[1:]
            self.assertEqual([block for block in blocks if "--hash=sha256:" not in block], [])
            self.assertNotRegex(_text(name), "://")
