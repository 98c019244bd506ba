"""Prometheus and its promtool, for tests of alerts and metrics.

`make prometheus` unpacks Debian's package into .venv; otherwise those on the PATH are used.
"""

import functools
import shutil
import sys
from pathlib import Path

from tests.support.programs import run_program


@functools.cache
def binary(name: str) -> str | None:
    """Return the path of `prometheus` or `promtool`, `None` if there is none."""
    unpacked = Path(sys.prefix) / "prometheus" / "usr" / "bin" / name
    return str(unpacked) if unpacked.is_file() else shutil.which(name)


def why_not(name: str = "promtool") -> str | None:
    """Return why a test can't use a program of Prometheus, `None` if it can."""
    if binary(name) is None:
        return f"There is no {name}: make prometheus, or apt install prometheus"
    return None


def promtool(*arguments: str, folder: Path | None = None, given: str = "") -> tuple[int, str]:
    """Run promtool in a folder with some input; return its exit status and what it has printed."""
    command = (binary("promtool") or "promtool", *arguments)
    return run_program(command, folder=folder, given=given, within=60)
