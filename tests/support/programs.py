"""Running programs to their end."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_program(
    command: Sequence[str],
    *,
    within: float,
    given: str = "",
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a program in a folder; return its exit status and what it has printed, errors included.

    `given` is its input, and `environ` its environment, if that is not this one. Raise
    `TimeoutExpired` if it takes more than `within` seconds.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environ,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within,
        check=False,
    )
    return done.returncode, done.stdout
