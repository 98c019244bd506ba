"""Which lines of hbtd each test runs, and how long it takes.

A mutant needs only the tests that run its line. They are recorded once for each module of tests,
and again when hbtd, the helpers of tests or that module have changed.
"""

import hashlib
import json
import os
import signal
from collections.abc import Container
from functools import cache
from pathlib import Path
from typing import NamedTuple

import coverage

from tests.mutation.trials import Listener, run

_LONGEST = 3.0
"""Seconds of the processor, with coverage, for a test; one that takes more is not used."""


class Test(NamedTuple):
    """A test that passes on hbtd as it is."""

    name: str
    """As trial takes it: `tests.hsm.test_outbox.OutboxTests.test_latest`."""
    spent: float
    """Seconds of the processor that it took."""
    lines: dict[str, set[int]]
    """The lines that it runs by file, as in `hbtd/hsm/outbox.py`; not those of imports."""

    @property
    def module(self) -> str:
        """The module that it is in."""
        return self.name.rpartition(".")[0].rpartition(".")[0]


class _Recorder(Listener):
    """Say to coverage which test runs, and keep how long it took.

    A test that takes too long ends this process; its name is what was written into a pipe last.
    """

    def __init__(self, measured: coverage.Coverage, pipe: int) -> None:
        self._measured = measured
        self._pipe = pipe
        self.spent: dict[str, float] = {}

    def started(self, name: str) -> None:
        os.write(self._pipe, f"{name}\n".encode())
        self._measured.switch_context(name)
        signal.setitimer(signal.ITIMER_PROF, _LONGEST)

    def ended(self, name: str, outcome: str, spent: float) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._measured.switch_context("")
        if outcome == "passed":
            self.spent[name] = spent


def record(module: str, checkout: Path, pipe: int, without: Container[str]) -> list[Test]:
    """Run the tests of a module but some; return those that pass.

    It is run in a process of its own, which a test that takes too long ends by `SIGPROF`; the last
    line in the pipe is the name of that test.
    """
    measured = coverage.Coverage(data_file=None, include=[f"{checkout}/hbtd/*"], config_file=False)
    measured.start()
    recorder = _Recorder(measured, pipe)
    run([module], recorder, without=without)
    measured.stop()
    data = measured.get_data()
    lines: dict[str, dict[str, set[int]]] = {}
    for path in data.measured_files():
        relative = str(Path(path).relative_to(checkout))
        for line, contexts in data.contexts_by_lineno(path).items():
            for context in contexts:
                lines.setdefault(context, {}).setdefault(relative, set()).add(line)
    return [Test(name, spent, lines.get(name, {})) for name, spent in recorder.spent.items()]


def key(checkout: Path, module: str) -> str:
    """Return what changes when a module's tests have to be recorded again."""
    source = (checkout / f"{module.replace('.', '/')}.py").read_bytes()
    return hashlib.sha256(_key(checkout) + source).hexdigest()


@cache
def _key(checkout: Path) -> bytes:
    """Return the same of what all tests share."""
    paths = [*(checkout / "hbtd").rglob("*.py"), *(checkout / "tests/support").rglob("*.py")]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(paths))).digest()


def save(path: Path, tests: list[Test], key: str) -> None:
    """Keep what was recorded of a module."""
    fields = [
        {
            "name": test.name,
            "spent": test.spent,
            "lines": {name: sorted(lines) for name, lines in test.lines.items()},
        }
        for test in tests
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, "tests": fields}))


def load(path: Path, key: str) -> list[Test] | None:
    """Return what was recorded of a module; `None` if that was never done, or is out of date."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("key") != key:
        return None
    return [
        Test(
            each["name"],
            each["spent"],
            {name: set(lines) for name, lines in each["lines"].items()},
        )
        for each in kept["tests"]
    ]
