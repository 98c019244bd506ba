"""Where mutants are run: a copy of the checkout, and a process of its own for each.

The processes are forks of one that has imported what hbtd's tests take from others, so that a
mutant costs half a second of imports rather than three.
"""

import compileall
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

from tests.mutation import trials
from tests.mutation.mutants import Mutant, mutated
from tests.mutation.tests_of import modules, of
from tests.mutation.touched import Test, key, load, record, save

CHECKOUT = Path(__file__).parent.parent.parent

_UNNEEDED = ("_trial_temp*", "build", "dist", "var", ".*", "*.egg-info")

_MEMORY = 4 << 30
"""How many bytes a mutant may take; one that never ends collecting something is noticed by it."""

_PATIENCE = 300
"""Seconds of life for one test, in case that it waits for what never comes."""


class Outcome(NamedTuple):
    """What has become of a mutant."""

    mutant: Mutant
    killer: str
    """The test that noticed it; empty if it survived."""
    how: str
    """`failed`, `timeout` or `crashed` (the process ended), if it was noticed."""
    tests: int
    """How many tests were run, the one that noticed it included."""
    left: int
    """How many of those that run its line were left out, because all take too long."""

    @property
    def survived(self) -> bool:
        """Whether no test noticed it."""
        return not self.killer


class _Teller(trials.Listener):
    """Tell the process that started this one what becomes of tests, and bound each of them."""

    def __init__(self, pipe: int, chosen: list[Test]) -> None:
        self._pipe = pipe
        self._spent = {test.name: test.spent for test in chosen}

    def started(self, name: str) -> None:
        self._say("+", name)
        signal.setitimer(signal.ITIMER_PROF, 10 + 20 * self._spent.get(name, 0.0))
        signal.alarm(_PATIENCE)

    def ended(self, name: str, outcome: str, spent: float) -> None:
        self._say("-" if outcome == "failed" else ".", name)

    def _say(self, what: str, name: str) -> None:
        os.write(self._pipe, f"{what}{name}\n".encode())


def copy(folder: Path) -> Path:
    """Copy the checkout into a folder, compiled; return where it is."""
    target = folder / "hbtd"
    shutil.copytree(CHECKOUT, target, ignore=shutil.ignore_patterns(*_UNNEEDED))
    for name in ("hbtd", "tests"):
        compileall.compile_dir(target / name, quiet=2)
    return target


@cache
def recorded(module: str, target: Path, kept: Path) -> list[Test]:
    """Return the tests of a module that pass, with the lines they run; keep that in a folder."""
    path, current = kept / f"{module}.json", key(target, module)
    known = load(path, current)
    without: set[str] = set()
    while known is None:
        said, status = _fork(
            target, lambda pipe: save(path, record(module, target, pipe, without), current)
        )
        known = load(path, current)
        if known is None:
            if not os.WIFSIGNALED(status) or not said:
                raise RuntimeError(f"{module}: {(target / 'mutants.log').read_text()}")
            without.add(said.splitlines()[-1])
    return known


def run(mutant: Mutant, target: Path, kept: Path, most: float, own: bool = False) -> Outcome:
    """Run tests on a mutant in a copy until one fails; see `tests_of`.

    Of those of its folder, and of the others, as many are run as take `most` seconds on hbtd. What
    is known of tests is in the folder `kept`. With `own`, the others are not run.
    """
    count = left = 0
    for names in modules(CHECKOUT, mutant.path)[: 1 if own else 2]:
        known = [test for name in names for test in recorded(name, target, kept)]
        concerned = of(mutant, CHECKOUT, known)
        chosen, total = [], 0.0
        for test in concerned:
            if total + test.spent <= most:
                chosen.append(test)
                total += test.spent
        left += len(concerned) - len(chosen)
        killer, how, ran = _try(mutant, target, chosen) if chosen else ("", "", 0)
        count += ran
        if killer:
            return Outcome(mutant, killer, how, count, left)
    return Outcome(mutant, "", "", count, left)


def _try(mutant: Mutant, target: Path, chosen: list[Test]) -> tuple[str, str, int]:
    """Run tests on a mutant; return the one that failed, how it did, and how many were run."""
    names = [test.name for test in chosen]
    with _put_into(mutant, target):
        said, status = _fork(
            target, lambda pipe: trials.run(names, _Teller(pipe, chosen), first_only=True)
        )
    lines = said.splitlines()
    count = sum(line.startswith("+") for line in lines)
    failed = [line[1:] for line in lines if line.startswith("-")]
    if failed:
        return failed[0], "failed", count
    if status:
        last = lines[-1][1:] if lines else "import"
        slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
        return last, "timeout" if slow else "crashed", count
    return ("import", "failed", count) if count < len(names) else ("", "", count)


@contextmanager
def _put_into(mutant: Mutant, target: Path) -> Iterator[None]:
    """Have a copy hold a mutant meanwhile."""
    path = target / mutant.path
    source, code = path.read_text(), mutated(target, mutant)
    # A source that is as old and as long as the compiled one says is not compiled again.
    Path(cache_from_source(str(path))).unlink(missing_ok=True)
    path.write_text(code)
    try:
        yield
    finally:
        path.write_text(source)


def _fork(target: Path, work: Callable[[int], None]) -> tuple[str, int]:
    """Do something in a process that imports from a copy; return what it has said, its status.

    `work` is given the descriptor of the pipe into which it may say something.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(target, work, writing)
    os.close(writing)
    try:
        with open(reading, encoding="utf-8") as pipe:
            said = pipe.read()
        return said, os.waitpid(child, 0)[1]
    finally:
        # What tests of a mutant have started, and it when this process is interrupted.
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


def _be_child(target: Path, work: Callable[[int], None], pipe: int) -> None:
    """Do the work of `_fork`, and end this process."""
    status = 1
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        os.chdir(target)
        trials.start_afresh(str(target))
        sys.dont_write_bytecode = True
        with open(target / "mutants.log", "w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        work(pipe)
        status = 0
    except BaseException:  # noqa: BLE001 -- nothing may return into the copy of the caller
        traceback.print_exc()
    finally:
        os._exit(status)
