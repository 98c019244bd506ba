"""Lock files, and the wheels that are chosen by them."""

import hashlib
from pathlib import Path

from packaging.tags import Tag
from twisted.trial.unittest import SynchronousTestCase

from release.failures import ReleaseError
from release.lock import Locked, chosen, locked, oldest_glibc, platforms
from release.wheelhouse import PYTHONS
from tests.support.processes import CHECKOUT

LOCK = """\
# Made by make lock
some-thing==1.0 ; python_full_version < '3.11' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via hbtd
some-thing==2.0 ; python_full_version >= '3.11' and platform_python_implementation != 'PyPy' \\
    --hash=sha256:cc
another==3 ; sys_platform == 'win32' \\
    --hash=sha256:dd
"""

TAGS = [Tag("cp311", "cp311", "manylinux_2_17_x86_64"), Tag("py3", "none", "any")]


class LockedTests(SynchronousTestCase):
    """What a lock file says of one Python."""

    def test_markers(self):
        """Only what is for that Python, on Linux, is taken, with all of its hashes."""
        old = Locked("some-thing", "1.0", frozenset({"sha256:aa", "sha256:bb"}))
        new = Locked("some-thing", "2.0", frozenset({"sha256:cc"}))
        self.assertEqual(locked(LOCK, "3.10"), [old])
        self.assertEqual(locked(LOCK, "3.11"), [new])
        self.assertEqual(locked(LOCK, "3.13"), [new])

    def test_written(self):
        """What is written for pip is read again as the same."""
        (package,) = locked(LOCK, "3.10")
        self.assertEqual(locked(str(package), "3.13"), [package])

    def test_of_hbtd(self):
        """Each Python that hbtd supports gets one version of each package, with hashes."""
        text = (CHECKOUT / "requirements" / "run.txt").read_text()
        for python in PYTHONS:
            packages = locked(text, python)
            self.assertEqual(len({each.name for each in packages}), len(packages))
            self.assertTrue(all(each.hashes for each in packages))
            self.assertEqual("tomli" in {each.name for each in packages}, python == "3.10")


class ChosenTests(SynchronousTestCase):
    """Which wheels of a directory are installed."""

    def setUp(self) -> None:
        """Make a directory of wheels, each of which has its name in it."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.hashes: dict[str, str] = {}
        for name in (
            "some_thing-1.0-py3-none-any.whl",
            "some_thing-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            "some_thing-1.0-cp312-cp312-manylinux_2_17_x86_64.whl",
            "some_thing-2.0-cp312-cp312-manylinux_2_17_x86_64.whl",
        ):
            (self.directory / name).write_text(name)
            self.hashes[name] = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"

    def choose(self, version: str, *hashes: str, tags: list[Tag] = TAGS) -> str:
        """Return the name of the wheel that is chosen."""
        package = Locked("some-thing", version, frozenset(hashes or self.hashes.values()))
        (path,) = chosen([package], self.directory, tags)
        return path.name

    def test_best(self):
        """The wheel that fits best is chosen, and none that does not fit."""
        self.assertIn("cp311", self.choose("1.0"))
        self.assertIn("py3-none-any", self.choose("1.0", tags=TAGS[1:]))

    def test_none(self):
        """If none fits, the error names package and version."""
        for version in ("2.0", "3.0"):
            error = self.assertRaises(ReleaseError, self.choose, version)
            self.assertIn(f"no wheel of some-thing {version}", str(error))

    def test_another_hash(self):
        """A wheel whose hash is not locked is refused, even if another one would do."""
        other = self.hashes["some_thing-1.0-py3-none-any.whl"]
        error = self.assertRaises(ReleaseError, self.choose, "1.0", other)
        self.assertIn("is not the file that is locked", str(error))

    def test_foreign_name(self):
        """A file that is no wheel by its name is named."""
        (self.directory / "nonsense.whl").touch()
        error = self.assertRaises(ReleaseError, self.choose, "1.0")
        self.assertIn("nonsense.whl", str(error))


class GlibcTests(SynchronousTestCase):
    """On how old a system wheels run."""

    def test_oldest(self):
        """Of a wheel's tags the oldest counts, of several wheels the newest; pure ones don't."""
        for names, expected in (
            (["a-1-py3-none-any.whl"], None),
            (["a-1-py3-none-any.whl", "b-1-cp311-cp311-manylinux2014_x86_64.whl"], (2, 17)),
            (["a-1-cp311-cp311-manylinux1_x86_64.manylinux_2_28_x86_64.whl"], (2, 5)),
            (
                [
                    "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
                    "b-1-cp39-abi3-manylinux_2_9_x86_64.whl",
                ],
                (2, 28),
            ),
        ):
            self.assertEqual(oldest_glibc(map(Path, names)), expected)

    def test_platforms(self):
        """Wheels for a newer glibc than that of supported systems are not asked for."""
        minors = [int(each.split("_")[2]) for each in platforms() if "manylinux_2_" in each]
        self.assertEqual((max(minors), min(minors)), (28, 5))
