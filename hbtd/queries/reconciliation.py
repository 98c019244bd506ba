"""Describes comparisons of HSM's table of components with the tracker, as the API shows them."""

from collections.abc import Sequence
from typing import Any

from hbtd.formats.nodesets import fold
from hbtd.formats.times import format_time
from hbtd.hsm.difference import Differences
from hbtd.hsm.reconciler import Reconciler
from hbtd.hsm.report import Report
from hbtd.hsm.second_signal import SecondSignal
from hbtd.queries.machine import Turn

MOST_NAMED = 1000
"""The largest number of components listed for each kind of difference.

The field `Number` counts all components with this kind of difference.
"""


async def describe(reconciler: Reconciler, turn: Turn) -> dict[str, Any]:
    """Return the API's JSON object about comparisons: the state, counts, and the last result.

    `turn` is awaited between portions of the work.
    """
    last = reconciler.last
    return {
        "State": reconciler.state.value,
        "Leading": reconciler.leading,
        "Every": reconciler.every,
        "Begun": reconciler.begun,
        "Ended": reconciler.comparisons,
        "Failed": reconciler.failures,
        "Failure": reconciler.failure,
        "ToldAgain": reconciler.told_count,
        "Waiting": reconciler.waiting,
        "Absent": _absent(reconciler.second_signal),
        "Last": None if last is None else await _report(last, turn),
    }


def _absent(found: SecondSignal) -> dict[str, Any]:
    absent = found.absent
    return {
        "After": found.after,
        "At": format_time(found.at),
        **_components(absent[:MOST_NAMED], len(absent)),
    }


async def _report(report: Report, turn: Turn) -> dict[str, Any]:
    groups: dict[str, Differences] = {
        "Told": report.told,
        "Waiting": report.waiting,
        "Held": report.held,
        "Contested": report.contested,
        "Unsettled": report.unsettled,
    }
    shown: dict[str, Any] = {
        "Number": report.number,
        "At": format_time(report.at),
        "DryRun": report.dry_run,
        "Nosm": report.nosm,
        "Rows": report.rows,
        "Differences": report.differences,
    }
    for name, group in groups.items():
        shown[name] = _components(group.components(MOST_NAMED), len(group))
        await turn()
    shown["Unknown"] = _components(report.unknown[:MOST_NAMED], len(report.unknown))
    return shown


def _components(names: Sequence[str], number: int) -> dict[str, Any]:
    return {"Number": number, "XNames": fold(names)}
