"""Puts small faults into a copy of hbtd, one at a time, and says which of them no test notices.

    make mutants                                      # 300 of them, drawn with the seed 1
    make mutants SEED=2 COUNT=50 JOBS=2
    make mutants MUTANTS=hbtd/hsm/outbox.py COUNT=all  # all of a file, or of a folder
    make mutants MUTANTS=hbtd/hsm/outbox.py:57:AddNot:3

A mutant that `README.md` beside this file lists as equivalent is not run. With --write its section
of the last run is written anew.
"""

import argparse
import multiprocessing
import re
import sys
import tempfile
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from tests.mutation.bench import CHECKOUT, Outcome, copy, run
from tests.mutation.mutants import Mutant, files, mutants, mutated, sample

_README = Path(__file__).parent / "README.md"

_RECORDS = CHECKOUT / "build/mutants"

_MARK = "## The last run\n"

_GOAL = 0.95
"""Which share of mutants has to be noticed."""

_target = Path()


def change(mutant: Mutant) -> tuple[str, str]:
    """Return the lines of code that a mutant changes, as they are and as it has them."""
    before = (CHECKOUT / mutant.path).read_text().splitlines()
    after = mutated(CHECKOUT, mutant).splitlines()
    first, last = _common(before, after), _common(before[::-1], after[::-1])
    return (
        _one_line(before[first : len(before) - last]),
        _one_line(after[first : len(after) - last]),
    )


def _common(some: list[str], others: list[str]) -> int:
    """Return how many lines are the same at the beginning."""
    pairs = zip(some, others, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _one_line(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def listed(readme: Path) -> set[tuple[str, str, str]]:
    """Return the mutants that are listed as equivalent: file, code, and code as they have it."""
    pattern = r"(?m)^\| `(hbtd/\S+)` \| `(.+?)` \| `(.+?)` \|"
    text = readme.read_text().partition(_MARK)[0] if readme.exists() else ""
    rows = re.findall(pattern, text)
    return {(path, *(code.replace("\\|", "|") for code in codes)) for path, *codes in rows}


def row(outcome: Outcome) -> str:
    """Return the line of a survivor in a table."""
    before, after = (each.replace("|", "\\|") for each in change(outcome.mutant))
    return f"| `{outcome.mutant.path}` | `{before}` | `{after}` |"


def _prepare(folder: str) -> None:
    """Make the copy of a process of the pool."""
    global _target
    _target = copy(Path(tempfile.mkdtemp(dir=folder)))


def _one(work: tuple[Mutant, float, bool]) -> Outcome:
    mutant, most, own = work
    return run(mutant, _target, _RECORDS, most, own)


def run_all(chosen: list[Mutant], jobs: int, most: float, own: bool) -> Iterator[Outcome]:
    """Run mutants, `jobs` at a time; yield what becomes of them as it is known."""
    context = multiprocessing.get_context("fork")
    with (
        tempfile.TemporaryDirectory() as folder,
        context.Pool(jobs, _prepare, (folder,)) as pool,
    ):
        yield from pool.imap_unordered(_one, [(mutant, most, own) for mutant in chosen])


def summary(outcomes: list[Outcome], equivalent: int) -> tuple[str, bool]:
    """Return the figures in a sentence, and whether they are good enough."""
    killed = sum(not each.survived for each in outcomes)
    slow = sum(each.how == "timeout" for each in outcomes)
    share = killed / len(outcomes) if outcomes else 1.0
    return (
        f"{len(outcomes) + equivalent} mutants: {killed} noticed ({slow} of them by a timeout),"
        f" {len(outcomes) - killed} not, {equivalent} listed as equivalent."
        f" That are {share:.1%} of those that are not."
    ), share >= _GOAL


def write(readme: Path, said: str, outcomes: list[Outcome], drawn: str) -> None:
    """Write the section of the last run into a README."""
    head = readme.read_text().partition(_MARK)[0]
    survivors = [row(each) for each in sorted(outcomes) if each.survived]
    table = ["", "| place | hbtd | mutant |", "| --- | --- | --- |", *survivors]
    readme.write_text(
        head + "\n".join([_MARK, f"{drawn}. {said}", *(table if survivors else [])]) + "\n"
    )


def chosen(arguments: argparse.Namespace) -> list[Mutant]:
    """Return the mutants that are asked for; raise `ValueError` if there is none of a name."""
    names = {each for each in arguments.mutants if ":" in each}
    places = [each for each in arguments.mutants if ":" not in each]
    paths = sorted({name.partition(":")[0] for name in names})
    found = [each for path in paths for each in mutants(CHECKOUT, path) if each.name in names]
    if len(found) < len(names):
        raise ValueError(f"no mutant {', '.join(names - {each.name for each in found})}")
    if places or not names:
        every = [each for path in files(CHECKOUT, places) for each in mutants(CHECKOUT, path)]
        count = len(every) if arguments.count == "all" else int(arguments.count)
        found += sample(every, arguments.seed, count)
    return sorted(set(found))


def main(arguments: list[str]) -> None:
    """Run mutants, and print what no test has noticed; exit with status 1 if that is too much."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("mutants", nargs="*", help="files, folders, or names of mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", default="300", help="how many are drawn; `all`")
    parser.add_argument("--jobs", type=int, default=1, help="how many are run at a time")
    parser.add_argument(
        "--most", type=float, default=20.0, help="seconds of tests for each, of the processor"
    )
    parser.add_argument("--own", action="store_true", help="run only the tests of its folder")
    parser.add_argument("--list", action="store_true", help="run nothing, print the mutants")
    parser.add_argument("--write", action="store_true", help="write the outcome into README.md")
    options = parser.parse_args(arguments)
    drawn = chosen(options)
    equivalent = listed(_README)
    files_listed = {path for path, *_ in equivalent}
    left = [
        each
        for each in drawn
        if each.path not in files_listed or (each.path, *change(each)) not in equivalent
    ]
    if options.list:
        print(*(each.name for each in left), sep="\n")
        return
    outcomes: list[Outcome] = []
    for outcome in run_all(left, options.jobs, options.most, options.own):
        outcomes.append(outcome)
        said = f"{outcome.how} {outcome.killer}" if outcome.killer else "SURVIVED"
        number = f"{len(outcomes)}/{len(left)}"
        print(f"{number} {outcome.mutant.name}: {said} ({outcome.tests} tests)", flush=True)
    for each in sorted(outcomes):
        if each.survived:
            print(f"\n{each.mutant.name}: {each.tests} tests ran, {each.left} were left out")
            print("- {}\n+ {}".format(*change(each.mutant)))
    said, good = summary(outcomes, len(drawn) - len(left))
    print(f"\n{said}")
    if options.write:
        write(_README, said, outcomes, f"Seed {options.seed}, {options.count} drawn")
    sys.exit(not good)


if __name__ == "__main__":
    main(sys.argv[1:])
