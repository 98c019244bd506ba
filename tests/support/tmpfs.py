"""A small filesystem that a test can fill."""

import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase


def small_filesystem(test: TestCase, kilobytes: int) -> Path:
    """Mount a filesystem of that size until the test ends; skip the test if that fails."""
    where = Path(test.mktemp()).resolve()
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(where)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SkipTest("mounting a small filesystem takes root on Linux") from error
    test.addCleanup(subprocess.run, ["umount", "--lazy", str(where)], check=True)
    return where


def fill(where: Path) -> Path:
    """Fill a filesystem; return the file that does, which can be removed again."""
    filler = where / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    return filler
