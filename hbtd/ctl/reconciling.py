"""The commands about HSM's table.

`reconcile` has hbtd check and correct the table; `absent` prints who is up there and never heard.
"""

from typing import Any

from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import NO, YES, Busy, Failure, Unreachable
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.times import shown_time
from hbtd.formats.counts import counted

_INTERVAL = 1.0
"""Seconds between two questions whether the comparison has ended."""

_WIDTH = 2000

_LONG = 1 << 20
"""The most characters of names that `absent` prints."""

_NAMED = 1000
"""The most absent nodes that hbtd names in an answer."""

_SOON = "being told already, or decided once the leader has listened for Errtime"

_GROUPS = (
    ("Told", "told again", "would be told again", False),
    ("Waiting", "to be told again once heard twice", "would be told again once heard twice", False),
    ("Unsettled", _SOON, _SOON, False),
    (
        "Held",
        "deaths that are too many to tell",
        "deaths, too many to be told without `hbtctl reconcile`",
        True,
    ),
    (
        "Contested",
        "contested, as somebody else writes HSM's table; left alone until the next change",
        "contested, as somebody else writes HSM's table; left alone until the next change",
        True,
    ),
)
"""The parts of a report: the field, what it means, also in a dry run, and if it stays wrong."""


def reconcile(run: Invocation) -> int:
    """Have hbtd compare HSM's table with its own data, and correct the table.

    Print the differences, and what hbtd does about each. In a dry run, or with `nosm`, the table is
    not corrected, and the exit status is 1 if there are any differences. Otherwise, the exit status
    is 1 if there are differences that hbtd does not correct.
    """
    dry_run = run.options.dry_run
    number = run.api.call("POST", "/reconcile", body={"DryRun": dry_run}).json()["Number"]
    report = _wait(run, number)
    if run.json:
        run.terminal.line(shown_json(report))
    else:
        _show(run, report)
    only = dry_run or _nosm(report)
    wrong = any(report[name]["Number"] and (stays or only) for name, _, _, stays in _GROUPS)
    return NO if wrong else YES


def _wait(run: Invocation, number: int) -> dict[str, Any]:
    """Wait until a comparison has ended, and return its report.

    Raise `Failure` if it fails, or takes longer than `--timeout`.
    """
    deadline = run.clock() + run.options.timeout
    while True:
        try:
            answer = run.api.get("/reconcile")
        except (Unreachable, Busy) as error:
            if run.clock() > deadline:
                raise
            run.terminal.progress(f"{error}; trying again")
        else:
            last = answer["Last"] or {"Number": 0}
            if last["Number"] >= number:
                run.terminal.clear_progress()
                return dict(last)
            ended = answer["Begun"] >= number and answer["State"] == "idle"
            if ended or not answer["Leading"]:
                raise Failure(answer["Failure"] or "another replica leads now; begin again")
            run.terminal.progress(f"{answer['State']} ...")
            if run.clock() > deadline:
                raise Failure(f"not done within {run.options.timeout:g} s: {answer['State']}")
        run.sleep(_INTERVAL)


def _show(run: Invocation, report: dict[str, Any]) -> None:
    only = report["DryRun"] or _nosm(report)
    line = run.terminal.line
    line(f"HSM's table has {shown(report['Rows'])} rows; wrong: {shown(report['Differences'])}")
    if _nosm(report):
        line("nosm is set: HSM is told nothing")
    for name, meaning, if_only, _ in _GROUPS:
        _show_group(run, report[name], if_only if only else meaning)
    _show_group(run, report["Unknown"], "heard, but not in HSM's table")


def _nosm(report: dict[str, Any]) -> bool:
    """Return whether HSM is told nothing because of `nosm`; an older hbtd does not say so."""
    return bool(report.get("Nosm", False))


def _show_group(run: Invocation, group: dict[str, Any], meaning: str) -> None:
    if group["Number"]:
        number, names = shown(group["Number"]), shown(group["XNames"], _WIDTH)
        run.terminal.line(f"{number} {meaning}: {names}")


def absent(run: Invocation) -> int:
    """Print the nodes that should be up according to HSM's table, and were never heard.

    With `--check`, the exit status is 1 if there are any. Raise `Failure` if hbtd does not look for
    them, or if the replica that is asked has not read HSM's table.
    """
    answer = run.api.get("/reconcile")
    found, line = answer["Absent"], run.terminal.line
    number, names = found["Number"], shown(found["XNames"], _LONG)
    if not found["After"]:
        raise Failure("no node counts as absent, as hbtd's option boot_time is 0: set it")
    if found["At"] is None:
        why = "it has yet to do so" if answer["Leading"] else "another replica leads; ask that one"
        raise Failure(f"this replica has not read HSM's table: {why}")
    if run.json:
        line(shown_json(found))
    elif run.options.output == "nodeset":
        line(names)
    else:
        nodes = counted(number, "node is", "nodes are")
        line(f"{nodes} absent, as of HSM's table at {shown_time(found['At'])}")
        if number:
            line(f"  {names}")
    if number > _NAMED:
        run.terminal.note(f"there are {shown(number)}; the first {_NAMED} are named")
    return NO if number and run.options.check else YES
