"""Makes all files that are published of a version, in a checkout: `make release`."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packaging.tags import sys_tags

from release import chart, environment, layout, packages, wheelhouse, wheels
from release.environment import PYTHON
from release.failures import ReleaseError
from release.layout import Place
from release.lock import Locked, chosen, locked, oldest_glibc, sha256
from release.wheels import CHECKOUT, LOCK, run

_WHEELS = CHECKOUT / "build" / "wheels"
_CHART = CHECKOUT / "deploy" / "helm" / "hbtd"
_AGENT = CHECKOUT / "deploy" / "node" / "hbtd-agent"


def for_this_host() -> tuple[Path, list[Locked]]:
    """Build and download the wheels for this Python; return their directory, and the packages.

    The packages are hbtd and all that it needs, each with the hashes of its wheels.
    """
    with _dated():
        wheels.download([PYTHON], _WHEELS)
        _, wheel = wheels.build(_WHEELS)
    return _WHEELS, [*locked(LOCK.read_text(), PYTHON), _hbtd(wheel)]


def make_packages(out: Path) -> None:
    """Make the `.deb` and the `.rpm` of hbtd and of hbtd-agent in `out`; print their paths."""
    with _dated():
        directory, wanted = for_this_host()
        for path in _packages(chosen(wanted, directory, list(sys_tags())), out, sbom=False):
            print(path)


def make(out: Path) -> None:
    """Empty the directory `out`, and make all that is published in it, with the SHA-256 hashes.

    The source archive and the wheel are checked first. The hashes are printed, too.
    """
    with _dated():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        archive, wheel = wheels.build(_WHEELS)
        tools = Path(sys.executable).parent
        run(str(tools / "twine"), "check", "--strict", str(archive), str(wheel), quiet=True)
        configuration = f"--config={CHECKOUT / 'pyproject.toml'}"
        run(str(tools / "check-wheel-contents"), configuration, str(wheel), quiet=True)
        wheels.download(wheelhouse.PYTHONS, _WHEELS)
        for path in (archive, wheel):
            shutil.copy(path, out)
        wanted = [*locked(LOCK.read_text(), PYTHON), _hbtd(wheel)]
        _packages(chosen(wanted, _WHEELS, list(sys_tags())), out, sbom=True)
        _wheelhouse(wheel, out)
        chart.make(_CHART, _hbtd(wheel).version, out)
        made = sorted(out.iterdir())
        sums = "".join(f"{sha256(path)}  {path.name}\n" for path in made)
        (out / "SHA256SUMS").write_text(sums)
        print(sums, end="")


def _packages(of: list[Path], out: Path, *, sbom: bool) -> list[Path]:
    """Make the `.deb` and the `.rpm` of hbtd and of hbtd-agent; return their paths.

    `of` are the wheels of hbtd and of what it needs. With `sbom`, also write a list of all packages
    in hbtd's environment (a software bill of materials).
    """
    with tempfile.TemporaryDirectory(prefix="hbtd-packages-") as temporary:
        place = Place(Path(temporary) / "hbtd", prefix="/usr")
        layout.lay_out(place, layout.build(place, of))
        version = environment.version(place.environment)
        if sbom:
            _write_sbom(place.environment, out / f"hbtd-{version}.cdx.json")
        made = packages.make("hbtd", version, place.root, oldest_glibc(of) or (2, 5), out)
        if _AGENT.is_file():
            made += packages.make("hbtd-agent", version, place.root, (2, 5), out)
        return made


def _write_sbom(built: Path, path: Path) -> None:
    """Write a list of the packages in an environment, as JSON in the format of CycloneDX."""
    run(
        *(str(Path(sys.executable).parent / "cyclonedx-py"), "environment"),
        *("--output-reproducible", "--output-format=JSON", f"--output-file={path}"),
        str(built / "bin" / "python"),
        quiet=True,
    )


def _wheelhouse(wheel: Path, out: Path) -> None:
    """Make the archive by which hbtd is installed on hosts without network, in `out`.

    `wheel` is that of hbtd; the wheels of what hbtd needs have been downloaded.
    """
    version = _hbtd(wheel).version
    needed: dict[str, Path] = {}
    for python in wheelhouse.PYTHONS:
        for package in locked(LOCK.read_text(), python):
            for path in _files(package):
                needed[path.name] = path
    with tempfile.TemporaryDirectory() as temporary:
        requirements = Path(temporary) / "tools.txt"
        requirements.write_text("".join(str(each) for each in wheelhouse.tools()))
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "--require-hashes", "--only-binary=:all:"),
            *(f"--requirement={requirements}", f"--dest={temporary}"),
        )
        tools = sorted(Path(temporary).glob("*.whl"))
        name = f"hbtd-{version}-wheelhouse-{platform.machine()}.tar.gz"
        wheelhouse.make(version, wheel, sorted(needed.values()), tools, out / name)


def _files(package: Locked) -> list[Path]:
    """Return the downloaded wheels of a package, for all Pythons.

    Raise `ReleaseError` if there is none.
    """
    found = [path for path in _WHEELS.glob("*.whl") if f"sha256:{sha256(path)}" in package.hashes]
    if not found:
        raise ReleaseError(f"no wheel of {package.name} {package.version} was downloaded")
    return found


def _hbtd(wheel: Path) -> Locked:
    """Return hbtd itself as a package with the hash of its wheel."""
    version = wheel.name.split("-")[1]
    return Locked("hbtd", version, frozenset({f"sha256:{sha256(wheel)}"}))


@contextmanager
def _dated() -> Iterator[None]:
    """Return a context manager that sets SOURCE_DATE_EPOCH, if unset, to the last commit's time.

    With it, the same sources make the same files, whenever they are made.
    """
    if "SOURCE_DATE_EPOCH" not in os.environ:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), "log", "-1", "--format=%ct"],
            capture_output=True,
            text=True,
        )
        if not re.fullmatch(r"\d+", done.stdout.strip()):
            yield
            return
        os.environ["SOURCE_DATE_EPOCH"] = done.stdout.strip()
    yield
