"""The packages of a host, by dpkg and rpm, to which files belong."""

import shutil
import subprocess
from pathlib import Path

from release.failures import ReleaseError
from release.layout import Place

_RPM_DATABASES = ("var/lib/rpm", "usr/lib/sysimage/rpm")


def check_unpackaged(place: Place) -> None:
    """Raise `ReleaseError` if the private environment is that of an installed package."""
    for manager, command, remove in (
        ("dpkg", _dpkg(place), "apt remove"),
        ("rpm", _rpm(place), "dnf remove"),
    ):
        if not command or shutil.which(command[0]) is None:
            continue
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        name = done.stdout.partition(":")[0].strip()
        if done.returncode == 0 and name:
            raise ReleaseError(
                f"{place.environment} belongs to the package {name} ({manager}): remove that with"
                f" {remove} {name}, or name another --envdir (make ENVDIR=)"
            )


def _dpkg(place: Place) -> list[str]:
    """Return the command that prints the name of the owner before a colon."""
    database = place.path("/var/lib/dpkg")
    file = f"{place.where}/pyvenv.cfg"
    return ["dpkg-query", f"--admindir={database}", "--search", file] if database.is_dir() else []


def _rpm(place: Place) -> list[str]:
    """Return the command that prints the name of the owner; no command without a database."""
    if not any((place.root / each).is_dir() for each in _RPM_DATABASES):
        return []  # rpm would make one
    root = [] if place.root == Path("/") else [f"--root={place.root}"]
    file = f"{place.where}/pyvenv.cfg"
    return ["rpm", *root, "--query", "--queryformat=%{NAME}", "--file", file]
