"""Makes a `.deb` and an `.rpm`, by nfpm, of files that are laid out in a directory."""

import os
import platform
import shutil
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path
from string import Template

from release.environment import PYTHON
from release.failures import ReleaseError
from release.wheels import CHECKOUT, run

FORMATS = ("deb", "rpm")
_CONFIGURATIONS = CHECKOUT / "deploy" / "packages"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's names, which nfpm translates into those of each format."""


def make(name: str, version: str, root: Path, glibc: tuple[int, int], out: Path) -> list[Path]:
    """Make the `.deb` and the `.rpm` called `name` in the directory `out`; return their paths.

    `root` is the directory that has the files. On a host the packages need glibc, in the version
    `glibc` or a newer one.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        configuration, made = Path(temporary) / "nfpm.yaml", Path(temporary) / "made"
        configuration.write_text(configured(name, version, root, glibc))
        made.mkdir()
        for kind in FORMATS:
            run(
                *(_nfpm(), "package", f"--config={configuration}", f"--packager={kind}"),
                f"--target={made}",
                quiet=True,
            )
        return [path.replace(out / path.name) for path in sorted(made.iterdir())]


def configured(name: str, version: str, root: Path, glibc: tuple[int, int]) -> str:
    """Return the configuration by which nfpm makes the packages called `name`; see `make`."""
    machine = platform.machine()
    metadata = ConfigParser(interpolation=None)
    metadata.read(CHECKOUT / "setup.cfg", "utf-8")
    of = metadata["metadata"]
    values = {
        "PACKAGE_VERSION": version,
        "PACKAGE_MAINTAINER": f"{of['maintainer']} <{of['maintainer_email']}>",
        "PACKAGE_ARCH": _ARCHITECTURES.get(machine, machine),
        "PACKAGE_PYTHON": f"python{PYTHON}",
        "PACKAGE_GLIBC": ".".join(str(each) for each in glibc),
        "PACKAGE_ROOT": str(root),
        "PACKAGE_DEPLOY": str(CHECKOUT / "deploy"),
    }
    return Template((_CONFIGURATIONS / f"{name}.yaml").read_text()).substitute(values)


def _nfpm() -> str:
    """Return the path of nfpm: the one beside the Python that runs this, or the first in PATH.

    Raise `ReleaseError` if there is none.
    """
    path = shutil.which("nfpm", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH')}")
    if path is None:
        raise ReleaseError("there is no nfpm: run make packages or make release, which install it")
    return path
