"""Runs spin on the model of replicas (tests/model): all states, or the steps to a wrong one."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import CHECKOUT
from tests.support.programs import run_program

MODEL = CHECKOUT / "tests" / "model" / "hbtd.pml"

_WITHIN = 1200.0
"""Seconds for one search: far more than it takes anywhere."""

_DEPTH = 100_000
"""The most steps of an execution; a search that needs more says so."""

_PROCESSES = (
    "start",
    "replica 0",
    "replica 1",
    "etcd, for replica 0",
    "etcd, for replica 1",
    "HSM, for replica 0",
    "HSM, for replica 1",
    "HSM, late",
    "time",
    "rest",
)
"""The processes of the model, in the order in which it starts them."""


class Search(NamedTuple):
    """What became of a search through the states of the model."""

    states: int
    """The number of different states."""

    seconds: float
    """How long it took, without making the program that does it."""

    complete: bool
    """Whether every state was visited that can be reached."""

    violated: str | None
    """The assertion that does not hold in one of them, or what else is wrong, if anything is."""

    unreached: list[str]
    """The statements of the model that were never carried out, but for the ends of processes."""

    said: str
    """All that the program has printed."""


def why_not() -> str | None:
    """Return why spin can't run here; `None` if it can."""
    missing = [name for name in ("spin", "cc") if shutil.which(name) is None]
    return f"{' and '.join(missing)} missing (on Debian: apt install spin gcc)" if missing else None


def search(
    folder: Path, defined: Sequence[str] = (), optimise: str = "-O0", *, cycles: bool = False
) -> Search:
    """Go through the states of the model, until one is wrong; return what was found.

    The model is translated in `folder`, with the macros `defined`; `optimise` is the compiler's
    option. With `cycles`, an execution is wrong as well if it never comes to rest after all has
    become calm. Raise `RuntimeError` if spin, the compiler or the search fails otherwise.
    """
    shutil.copy(MODEL, folder / MODEL.name)
    _run(folder, ["spin", "-a", *_flags(defined), MODEL.name])
    # Without the reduction that a `timeout` in the model forbids; states in full, not hashed.
    options = ["-DNOREDUCE", "-DMEMLIM=3500", *(["-DNP", "-DNOFAIR"] if cycles else ["-DSAFETY"])]
    _run(folder, ["cc", "-w", optimise, *options, "-o", "pan", "pan.c"])
    said = _run(folder, ["./pan", f"-m{_DEPTH}", "-w24", *(["-l"] if cycles else [])])
    states = re.search(r"^ *(\S+) states, stored", said, re.MULTILINE)
    seconds = re.search(r"elapsed time (\S+) seconds", said)
    errors = re.search(r"errors: (\d+)$", said, re.MULTILINE)
    if states is None or errors is None:
        raise RuntimeError(f"the search did not end: {said}")
    violated = re.search(r"^pan:1: (.+) \(at depth \d+\)$", said, re.MULTILINE)
    if (violated is None) != (errors[1] == "0"):
        raise RuntimeError(f"the search has found something else: {said}")
    short = (
        "Search not completed",
        "max search depth too small",
        "resource limit",
        "out of memory",
    )
    return Search(
        round(float(states[1])),
        float(seconds[1]) if seconds else 0.0,
        not any(each in said for each in short),
        violated[1] if violated else None,
        [
            line.strip()
            for line in re.findall(r"^\t\S+\.pml:\d+, state \d+, .+$", said, re.MULTILINE)
            if '"-end-"' not in line
        ],
        said,
    )


def story(folder: Path, defined: Sequence[str] = ()) -> list[str]:
    """Return the steps that led to what the last `search` in `folder` found wrong, line by line.

    Each has the process, and the line of the model where the step begins.
    """
    said = _run(folder, ["spin", "-t", "-p", *_flags(defined), MODEL.name])
    source = MODEL.read_text().splitlines()
    lines: list[str] = []
    known = ""
    for step, process, line in re.findall(
        r"^ *(\d+):\s+proc +(\d+) \(\S+\) \S+\.pml:(\d+) \(state \d+\)\s+\[", said, re.MULTILINE
    ):
        begins = source[int(line) - 1].strip()
        if step != known and int(process) < len(_PROCESSES) and begins != "d_step {":
            lines.append(f"{_PROCESSES[int(process)]:20} {line:>4}: {begins}")
        known = step
    return lines


def _flags(defined: Sequence[str]) -> list[str]:
    return [f"-D{name}" for name in defined]


def _run(folder: Path, command: Sequence[str]) -> str:
    status, said = run_program(command, within=_WITHIN, folder=folder)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}: {said}")
    return said
