"""Two releases of hbtd, made from this checkout: as it is, and with a later version."""

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from hbtd import __version__
from tests.support import systemd_root
from tests.support.processes import CHECKOUT

TOOLS = CHECKOUT / "build" / "tools"
"""The environment that `make release` makes its tools in."""

NEWER = "9.8.7"
"""The later version."""

AGENT = (CHECKOUT / "deploy" / "node" / "hbtd-agent").is_file()

EPOCH = 1_700_000_000
"""When releases were made, as far as one can see."""


def why_not() -> str | None:
    """Return why a test can't make packages, `None` if it can be tried."""
    if not (TOOLS / ".release").exists():
        return "There are no tools to make packages with: make test-packages installs them."
    reason = systemd_root.why_not()
    (python,) = (TOOLS / "lib").glob("python3.*")
    if reason is None and not (systemd_root.DEBIAN / "usr" / "bin" / python.name).exists():
        return f"The Debian root has no {python.name}, which packages are made for."
    return reason


@functools.cache
def everything() -> Path:
    """Return the directory of all that `make release` makes; skip the test if it can't be made."""
    return _made("release")


@functools.cache
def newer_packages() -> Path:
    """Return the directory of the packages of the later version.

    Its hbtd.env has another comment, and a file of its documents is not there any more.
    """
    return _made("release", "--packages-only", version=NEWER)


def made_elsewhere() -> Path:
    """Return the directory of packages that were made from the same sources once more."""
    return _made("release", "--packages-only", timezone="Asia/Tokyo", umask=0o077)


def package(directory: Path, name: str, kind: str) -> Path:
    """Return the path of a package, a `deb` or an `rpm`."""
    (path,) = directory.glob(f"{name}[_-][0-9]*.{kind}")
    return path


def _made(
    *arguments: str, version: str = __version__, timezone: str = "UTC", umask: int = 0o022
) -> Path:
    """Run a command of `release` in a copy of the checkout; return what it has made."""
    reason = why_not()
    if reason is not None:
        raise SkipTest(reason)
    source = Path(tempfile.mkdtemp(prefix="hbtd-packages-"))
    # trial has no hook after the last of several modules.
    _REMOVED.append(tempfile.TemporaryDirectory(prefix="hbtd-packages-made-"))
    out = Path(_REMOVED[-1].name)
    try:
        _copy(source / "checkout")
        if version != __version__:
            _edit(source / "checkout", version)
        done = subprocess.run(
            [TOOLS / "bin" / "python", "-m", "release", *arguments, f"--out={out}"],
            cwd=source / "checkout",
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "TZ": timezone}
            | {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
            | {"SOURCE_DATE_EPOCH": str(EPOCH)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=umask,
        )
        if done.returncode:
            raise AssertionError(f"release {' '.join(arguments)} failed: {done.stdout}")
    finally:
        shutil.rmtree(source)
    return out


def _copy(target: Path) -> None:
    """Copy the checkout, without what was made in it."""
    ignored = shutil.ignore_patterns(
        *(".git", ".venv", ".mypy_cache", ".hypothesis", ".ruff_cache", "_*_temp*", "_trial*"),
        *("build", "dist", "var", "*.egg-info", "__pycache__", "dropin.cache", "tests"),
    )
    shutil.copytree(CHECKOUT, target, ignore=ignored)
    (target / "tests").mkdir()  # setup.cfg and MANIFEST.in name it


def _edit(checkout: Path, version: str) -> None:
    """Make a later version of a copy of the checkout."""
    modules = [checkout / "hbtd" / "__init__.py"]
    if AGENT:
        modules.append(checkout / "deploy" / "node" / "hbtd-agent")
    for module in modules:
        pattern = '^((?:__version__|VERSION) =) ".*"$'
        text, changed = re.subn(pattern, rf'\1 "{version}"', module.read_text(), flags=re.M)
        assert changed == 1, module
        module.write_text(text)
    options = checkout / "deploy" / "systemd" / "hbtd.env"
    options.write_text("# Of the later version.\n" + options.read_text())
    (checkout / "docs" / "glossary.md").unlink()


_REMOVED: list[tempfile.TemporaryDirectory[str]] = []
