"""Lock files: the packages that they name for a Python on Linux, and the wheels of these."""

import hashlib
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from release.failures import ReleaseError

OLDEST_GLIBC = (2, 28)
"""Wheels are for this glibc (RHEL 8, SLES 15 SP3, Debian 10) or an older one."""


@dataclass(frozen=True)
class Locked:
    """A version of a package, with the hashes (`sha256:...`) of the files that may be installed."""

    name: str
    version: str
    hashes: frozenset[str]

    def __str__(self) -> str:
        hashes = "".join(f" \\\n    --hash={each}" for each in sorted(self.hashes))
        return f"{self.name}=={self.version}{hashes}\n"


def locked(text: str, python: str) -> list[Locked]:
    """Return the packages that a lock file names for a version of Python on this machine.

    `text` is that of the file, and `python` a version such as `3.11`.
    """
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": platform.machine(),
        "os_name": "posix",
        "extra": "",
    }
    found = []
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        requirement = Requirement(block.partition("\\\n")[0].partition("#")[0])
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            hashes = frozenset(re.findall(r"--hash=(\w+:\w+)", block))
            found.append(Locked(canonicalize_name(requirement.name), specifier.version, hashes))
    return found


def chosen(packages: Iterable[Locked], directory: Path, tags: Sequence[Tag]) -> list[Path]:
    """Return one wheel for each package: of those in `directory`, the first by the order of `tags`.

    Raise `ReleaseError` if there is none, or if its hash is not locked.
    """
    rank = {tag: number for number, tag in enumerate(tags)}
    wheels: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for path in sorted(directory.glob("*.whl")):
        try:
            name, version, _, fits = parse_wheel_filename(path.name)
        except InvalidWheelFilename as error:
            raise ReleaseError(f"{path} has no name of a wheel: {error}") from None
        ranks = [rank[tag] for tag in fits if tag in rank]
        if ranks:
            wheels.setdefault((name, str(version)), []).append((min(ranks), path))
    result = []
    for package in packages:
        candidates = wheels.get((canonicalize_name(package.name), package.version))
        if not candidates:
            raise ReleaseError(
                f"{directory} has no wheel of {package.name} {package.version} for this Python on"
                " this host"
            )
        path = min(candidates)[1]
        if f"sha256:{sha256(path)}" not in package.hashes:
            raise ReleaseError(f"{path} is not the file that is locked: its hash is another one")
        result.append(path)
    return result


def oldest_glibc(wheels: Iterable[Path]) -> tuple[int, int] | None:
    """Return the oldest version of glibc on which all wheels run, `None` if none needs glibc."""
    needed = [glibc for path in wheels if (glibc := _glibc(path)) is not None]
    return max(needed, default=None)


def _glibc(path: Path) -> tuple[int, int] | None:
    """Return the oldest version of glibc on which a wheel runs, `None` if it needs no glibc."""
    legacy = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    found = []
    for tag in parse_wheel_filename(path.name)[3]:
        if tag.platform == "any":
            return None
        exact = re.match(r"manylinux_(\d+)_(\d+)_", tag.platform)
        found.append(
            (int(exact[1]), int(exact[2])) if exact else legacy[tag.platform.partition("_")[0]]
        )
    return min(found)


def platforms() -> list[str]:
    """Return the platforms whose wheels can be used, as `pip download --platform` takes them."""
    machine = platform.machine()
    versions = [f"manylinux_2_{minor}_{machine}" for minor in range(OLDEST_GLIBC[1], 4, -1)]
    return [*versions, *(f"manylinux{each}_{machine}" for each in ("2014", "2010", "1"))]


def sha256(path: Path) -> str:
    """Return the SHA-256 hash of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
