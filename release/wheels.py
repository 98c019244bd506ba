"""Builds the wheel of hbtd, and downloads those of what hbtd needs."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from release import archives
from release.environment import epoch
from release.failures import ReleaseError
from release.lock import locked, platforms

CHECKOUT = Path(__file__).resolve().parent.parent
LOCK = CHECKOUT / "requirements" / "run.txt"


def download(pythons: Sequence[str], directory: Path) -> None:
    """Download the wheels of what hbtd needs into a directory, for each of `pythons`, as `3.11`."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        requirements = Path(temporary) / "requirements.txt"
        for python in pythons:
            text = "".join(str(each) for each in locked(LOCK.read_text(), python))
            requirements.write_text(text)
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--require-hashes", "--only-binary=:all:"),
                *(f"--requirement={requirements}", f"--dest={directory}"),
                *("--implementation=cp", f"--python-version={python}"),
                *(f"--platform={each}" for each in platforms()),
            )


def build(directory: Path) -> tuple[Path, Path]:
    """Build hbtd's source archive, and from that its wheel, in a directory; return both paths.

    Those that are in the directory already, of whatever version, are removed first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for old in [*directory.glob("hbtd-*.whl"), *directory.glob("hbtd-*.tar.gz")]:
        old.unlink()
    with tempfile.TemporaryDirectory() as temporary:
        # Of a copy: setuptools leaves files in the checkout, and takes old ones from there.
        source = Path(temporary) / "source"
        shutil.copytree(CHECKOUT, source, ignore=_ignored)
        out = Path(temporary) / "dist"
        run(
            *(sys.executable, "-m", "build", "--no-isolation", f"--outdir={out}", str(source)),
            quiet=True,
        )
        (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
        time = epoch() or int(archive.stat().st_mtime)
        archives.write(archive, archives.read(archive), time)
        return (
            Path(shutil.copy(archive, directory)),
            Path(shutil.copy(wheel, directory)),
        )


def _ignored(directory: str, names: list[str]) -> set[str]:
    """Return which names in a directory of the checkout are no sources of hbtd."""
    made = {"__pycache__", "dropin.cache"}
    if Path(directory) == CHECKOUT:
        made |= {"build", "dist", "var"}
        made |= {each for each in names if each.startswith((".", "_")) and each != ".ci"}
        made |= {each for each in names if each.endswith(".egg-info")}
    return made & set(names)


def run(*command: str, quiet: bool = False) -> None:
    """Run a command; if it fails, raise `ReleaseError` with the last lines of its output.

    Otherwise print its output, unless `quiet` is true.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        said = done.stdout.strip().splitlines()[-20:]
        raise ReleaseError(f"{' '.join(command[:4])} ... failed:\n" + "\n".join(said))
    if not quiet and done.stdout.strip():
        print(done.stdout.strip())
