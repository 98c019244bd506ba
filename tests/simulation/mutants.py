"""Does the simulation notice? Faults of hbtd, kept as patches, each run until a world finds it.

    make simulate-mutants                        # all of them
    make simulate-mutants MUTANTS="no_standstill lease_too_long" SEEDS=200

With --table the outcome is written into `mutants/README.md`, beside those of other mutants.

A patch in the folder `mutants` begins with a sentence that says what is wrong then, and with the
worlds that are run: single, table, replicas, handover, mixed, guarded or guarded-replicas. Behind
that it may say `, seeds from 20001`: only these worlds have changed parameters, rarer troubles of
the network, and messages in pieces. A patch is applied to a copy of the checkout. One that no
longer applies is an error: make it anew.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.simulation.kinds import KINDS

_CHECKOUT = Path(__file__).parent.parent.parent

_PATCHES = Path(__file__).parent / "mutants"

_HEAD = (
    "# Faults that the simulation has to notice",
    "",
    "Each line is written by `python -m tests.simulation.mutants --table NAME` when that has run.",
    "It says which worlds were run, until one was wrong, and what the oracle said of that one.",
    "**Not found** means: not in these worlds, in the time that the last column says.",
    "",
    "Worlds: `single` is the usual one, `table` is `TABLE=yes`, `handover` is `HANDOVER=yes`,",
    "`replicas` is `REPLICAS=3`, `mixed` is `REPLICAS=3 ORIGINAL=yes`. To see what was found,",
    "apply the patch (`git apply`), `make simulate SEED=...`, and take it back (`git apply -R`).",
    "",
    "| fault | world | seed that found it | seeds run | what the oracle said |",
    "| --- | --- | --- | --- | --- |",
)

_LEFT_OUT = """
Left out, as no promise is broken by it, so that tests of the parts have to notice:

- An alarm that is sent although its component has just been heard: the silence was one, and HSM is
  told next that the component is back. (If that can't be committed, the promise is broken: table
  900262 has found it.)
- Records that could not be stored and are not stored later: the next heartbeat stores them, and a
  component that sends none is as old after a restart as one whose record was stored.
"""


class Mutant(NamedTuple):
    """A fault of hbtd."""

    path: Path
    description: str
    world: str
    first: int = 1
    """The seed of the first world that may find it."""


class Outcome(NamedTuple):
    """What has become of a mutant."""

    seed: int | None
    """The seed of the first world that found it, `None` if none did."""
    worlds: int
    spent: int
    """The seconds of processors that the worlds took."""
    said: str
    """What the oracle said."""


def mutants(names: list[str]) -> list[Mutant]:
    """Return some mutants by name; all of them if no names are given.

    Raise `ValueError` if there is none of a name.
    """
    found = {path.stem: read(path) for path in sorted(_PATCHES.glob("*.patch"))}
    unknown = ", ".join(sorted({*names} - {*found}))
    if unknown:
        raise ValueError(f"there is no mutant {unknown}")
    return [each for name, each in found.items() if not names or name in names]


def read(path: Path) -> Mutant:
    """Return the mutant of a patch; raise `ValueError` if it does not begin as it should."""
    head = re.match(
        rf"(.+\.)\nWorld: ({'|'.join(KINDS)})(?:, seeds from (\d+))?\n\n",
        path.read_text(),
    )
    if head is None:
        raise ValueError(f"{path} does not begin with a sentence, and with its world")
    return Mutant(path, head[1], head[2], int(head[3] or 1))


def copy(target: Path) -> None:
    """Copy what a simulation needs of the checkout."""
    for name in ("hbtd", "tests", "twisted"):
        if (_CHECKOUT / name).is_dir():
            unneeded = shutil.ignore_patterns("__pycache__", "_trial_temp*")
            shutil.copytree(_CHECKOUT / name, target / name, ignore=unneeded)


def apply(patch: Path, target: Path) -> None:
    """Apply a patch to a copy; raise `CalledProcessError` if that is not possible."""
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(patch)],
        cwd=target,
        env={"GIT_CEILING_DIRECTORIES": str(target.parent), "PATH": "/usr/bin:/bin"},
        check=True,
    )


def run(
    mutant: Mutant, first: int, seeds: int, patience: float, jobs: int | None = None
) -> Outcome:
    """Run worlds with a mutant until one finds it, or time is up; `jobs` at a time, if given."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "hbtd"
        target.mkdir()
        copy(target)
        apply(mutant.path, target)
        command = [sys.executable, "-m", "tests.simulation", f"--first={first}"]
        command += [f"--seeds={seeds}", f"--within={patience}", "--until-wrong"]
        command += [] if jobs is None else [f"--jobs={jobs}"]
        done = subprocess.run(
            [*command, *KINDS[mutant.world].arguments],
            cwd=target,
            env={"PYTHONPATH": str(target), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    worlds = re.search(
        r"(?m)^(\d+) worlds, \d+ wrong.*node-hours.* (\d+) s of processors$", done.stdout
    )
    if worlds is None:
        raise RuntimeError(f"{mutant.path.stem}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = re.search(r"(?m)^seed (\d+): (.*)$", done.stdout)
    if found is None:
        return Outcome(None, int(worlds[1]), int(worlds[2]), "")
    return Outcome(int(found[1]), int(worlds[1]), int(worlds[2]), found[2])


def row(mutant: Mutant, outcome: Outcome, first: int) -> str:
    """Return the line of a mutant in the table; `first` is the seed of the first world."""
    last = first + outcome.worlds - 1
    found = "**not found**" if outcome.seed is None else str(outcome.seed)
    said = outcome.said.replace("|", "/") or f"nothing, in {outcome.spent} s of processors"
    return (
        f"| `{mutant.path.stem}`: {mutant.description} | {mutant.world} | {found} |"
        f" {first} to {last} | {said} |"
    )


def write_row(table: Path, line: str) -> None:
    """Write a mutant's line into a table, in place of an older one; make the table if need be."""
    name = line.partition(":")[0]
    before = table.read_text().splitlines() if table.exists() else []
    rows = [each for each in before if each.startswith("| `") and not each.startswith(f"{name}:")]
    names = {path.stem for path in _PATCHES.glob("*.patch")}
    rows = [each for each in (*rows, line) if each.split("`")[1] in names]
    waiting = sorted(names - {each.split("`")[1] for each in rows})
    rest = f"\nNot run yet: {', '.join(waiting)}.\n" if waiting else ""
    table.write_text("\n".join([*_HEAD, *sorted(rows)]) + "\n" + _LEFT_OUT + rest)


def main(arguments: list[str]) -> None:
    """Run mutants, and print a table; exit with status 1 if one is not found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="the mutants to run; all, if none are named")
    parser.add_argument(
        "--first", type=int, help="the first seed; the one that the patch names, or 1, if not said"
    )
    parser.add_argument("--seeds", type=int, default=100, help="the most worlds for each mutant")
    parser.add_argument(
        "--within", type=float, default=3600.0, help="the most CPU seconds for each mutant"
    )
    parser.add_argument("--jobs", type=int, help="how many worlds to run at a time")
    parser.add_argument("--table", action="store_true", help="write outcomes into the table")
    options = parser.parse_args(arguments)
    missed = 0
    try:
        some = mutants(options.names)
    except ValueError as error:
        parser.error(str(error))
    for mutant in some:
        first = mutant.first if options.first is None else options.first
        outcome = run(mutant, first, options.seeds, options.within, options.jobs)
        missed += outcome.seed is None
        if options.table:
            write_row(_PATCHES / "README.md", row(mutant, outcome, first))
        where = "NOT FOUND" if outcome.seed is None else f"seed {outcome.seed}"
        print(
            f"{mutant.path.stem:<20} {mutant.world:<9} {where:<12} {outcome.worlds:>4} worlds"
            f" {outcome.spent:>5} s  {mutant.description} {outcome.said[:100]}",
            flush=True,
        )
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
