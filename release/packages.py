"""Packages of a host whose files have been laid out in a directory, made by nfpm."""

import os
import platform
import shutil
import sys
import tempfile
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
    """Make the packages `name`, as `hbtd`, of the files in a directory; return their paths.

    They need a glibc of that version at least.
    """
    out.mkdir(parents=True, exist_ok=True)
    machine = platform.machine()
    values = {
        "PACKAGE_VERSION": version,
        "PACKAGE_ARCH": _ARCHITECTURES.get(machine, machine),
        "PACKAGE_PYTHON": f"python{PYTHON}",
        "PACKAGE_GLIBC": ".".join(str(each) for each in glibc),
        "PACKAGE_ROOT": str(root),
        "PACKAGE_DEPLOY": str(CHECKOUT / "deploy"),
    }
    template = Template((_CONFIGURATIONS / f"{name}.yaml").read_text())
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        configuration, made = Path(temporary) / "nfpm.yaml", Path(temporary) / "made"
        configuration.write_text(template.substitute(values))
        made.mkdir()
        for kind in FORMATS:
            run(
                *(_nfpm(), "package", f"--config={configuration}", f"--packager={kind}"),
                f"--target={made}",
                quiet=True,
            )
        return [path.replace(out / path.name) for path in sorted(made.iterdir())]


def _nfpm() -> str:
    """Return the path of nfpm, which is beside the Python that runs this."""
    path = shutil.which("nfpm", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH')}")
    if path is None:
        raise ReleaseError("there is no nfpm: run make packages or make release, which install it")
    return path
