"""The private environment: a Python environment that has only hbtd and what hbtd needs.

It is like one that `python -m venv` makes, but can be built in one directory and moved to another,
since no path in it names the first. Neither pip nor a network is needed to build it.
"""

import compileall
import os
import py_compile
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

from release.failures import ReleaseError

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python that runs this, for which environments are built, as `3.11`."""

_CACHE = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"


def base_python() -> Path:
    """Return the path of the Python that runs this process, outside of any virtual environment.

    Raise `ReleaseError` if hbtd can't be run with it.
    """
    if sys.version_info < (3, 10):  # noqa: UP036  # in an archive, any Python may run this
        raise ReleaseError(f"hbtd needs Python 3.10 or newer; {sys.executable} is {PYTHON}")
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    if base.is_relative_to("/root") or base.is_relative_to("/home"):
        raise ReleaseError(
            f"{base} is in a home directory, where the user hbtd can't run it: choose another"
            " Python, as in make install RUNPYTHON=/usr/bin/python3"
        )
    return base


def build(wheels: Iterable[Path], environment: Path, where: str) -> None:
    """Build an environment with `wheels` in the directory `environment`.

    `where` is the directory to which the caller moves the environment afterwards.
    """
    base = base_python()
    binaries = environment / "bin"
    packages = environment / "lib" / f"python{PYTHON}" / "site-packages"
    for directory in (binaries, packages):
        directory.mkdir(parents=True)
    (environment / "lib64").symlink_to("lib")
    # Of this minor version only: the next one has no packages here.
    (binaries / f"python{PYTHON}").symlink_to(base.parent / f"python{PYTHON}")
    if not (binaries / f"python{PYTHON}").exists():
        raise ReleaseError(f"there is no python{PYTHON} beside {base}")
    for name in ("python3", "python"):
        (binaries / name).symlink_to(f"python{PYTHON}")
    version = ".".join(str(each) for each in sys.version_info[:3])
    (environment / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    )
    destination = SchemeDictionaryDestination(
        {
            "purelib": str(packages),
            "platlib": str(packages),
            "headers": str(environment / "include" / "site"),
            "scripts": str(binaries),
            "data": str(environment),
        },
        interpreter=f"{where}/bin/python{PYTHON}",
        script_kind="posix",
    )
    for wheel in wheels:
        with WheelFile.open(wheel) as source:
            source.validate_record()
            install(source, destination, {"INSTALLER": b"hbtd\n"})
    _compile(packages, environment, where)
    _set_times(environment)
    _write_plugin_cache(environment, packages)


def commands(environment: Path) -> list[str]:
    """Return the names of hbtd's own commands in an environment, sorted."""
    (metadata,) = environment.glob("lib/python*/site-packages/hbtd-*.dist-info")
    points = Distribution.at(metadata).entry_points
    return sorted(each.name for each in points.select(group="console_scripts"))


def version(environment: Path) -> str:
    """Return the version of hbtd in an environment."""
    (metadata,) = environment.glob("lib/python*/site-packages/hbtd-*.dist-info")
    return Distribution.at(metadata).version


def epoch() -> int | None:
    """Return SOURCE_DATE_EPOCH, the time of all files in a reproducible build, in Unix seconds.

    Return `None` if it is not set.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(text) if text.isdecimal() else None


def _compile(packages: Path, environment: Path, where: str) -> None:
    """Compile all modules now, since hbtd's user may not write compiled files there later.

    Python compares the compiled files with the contents of the sources, not with their times, which
    packages change.
    """
    # What it returns does not matter: some packages have templates of modules, which are no Python.
    compileall.compile_dir(
        packages,
        quiet=2,
        stripdir=str(environment),
        prependdir=where,
        invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
    )


def _set_times(environment: Path) -> None:
    """Set the modification time of all files to `epoch()`, unless that is `None`."""
    time = epoch()
    if time is None:
        return
    for directory, _, files in os.walk(environment):
        for name in [*files, "."]:
            os.utime(Path(directory) / name, (time, time), follow_symlinks=False)


def _write_plugin_cache(environment: Path, packages: Path) -> None:
    """Have Twisted write its cache of plugins, which twistd would make at each start otherwise."""
    python = environment / "bin" / f"python{PYTHON}"
    done = subprocess.run(
        [python, "-I", "-B", "-c", _CACHE], capture_output=True, text=True, cwd="/"
    )
    cache = packages / "twisted" / "plugins" / "dropin.cache"
    if done.returncode or not cache.exists():
        raise ReleaseError(f"twistd can't list its plugins: {done.stderr.strip()[-300:]}")
    time = epoch()
    if time is not None:
        # It counts only if it is newer than the plugins.
        os.utime(cache, (time + 2, time + 2))
