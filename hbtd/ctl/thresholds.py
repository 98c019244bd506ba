"""The command `thresholds`: shows and replaces the times of some components."""

import json
import re
from typing import Any

from hbtd.ctl.client import Answer
from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import YES, Misused
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.names import joined

_WARNING = re.compile(r'199 hbtd "((?:[^"\\]|\\.)*)"')

_WIDTH = 100
"""The most characters of a nodeset that a table shows."""


def thresholds(run: Invocation) -> int:
    """Show the thresholds, replace them by those in a file, or remove them; print what there is."""
    action, file = run.options.action, run.options.file
    if (action == "set") != (file is not None):
        needs = (
            "give the file with the rows, or - for standard input" if file is None else "no FILE"
        )
        raise Misused(f"hbtctl thresholds {action}: {needs}")
    if action == "show":
        rows = run.api.get("/thresholds")
    else:
        answer = run.api.call("PUT", "/thresholds", body=_rows(run, file) if file else [])
        _warn(run, answer)
        rows = answer.json()
        _note_idle(run, rows)
    if run.json:
        run.terminal.line(shown_json(rows))
        return YES
    if not rows:
        run.terminal.note("no thresholds: all have the times that `hbtctl params` shows")
        return YES
    lines = [
        [
            shown(row["Match"], _WIDTH),
            *(shown(row.get(name) or "-") for name in ("Warntime", "Errtime")),
            shown(row.get("Components")),
        ]
        for row in rows
    ]
    headers = ("MATCH", "WARNTIME", "ERRTIME", "COMPONENTS")
    run.terminal.table(headers, lines, titles=run.options.headers)
    return YES


def _rows(run: Invocation, file: str) -> Any:
    """Return the rows in a file, with the groups of this host expanded."""
    try:
        if file == "-":
            text = run.terminal.stdin.read()
        else:
            with open(file, encoding="utf-8") as opened:
                text = opened.read()
        rows = json.loads(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"it is no JSON: {error}"
        raise Misused(f"{shown(file)} can't be used: {shown(reason)}") from None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and "@" in str(row.get("Match")):
            row["Match"] = joined([str(row["Match"])], run.terminal.stdin)
    return rows


def _warn(run: Invocation, answer: Answer) -> None:
    """Print what hbtd finds doubtful."""
    said = "".join(value for name, value in answer.headers.items() if name.lower() == "warning")
    for text in _WARNING.findall(said):
        run.terminal.note(re.sub(r"\\(.)", r"\1", text))


def _note_idle(run: Invocation, rows: Any) -> None:
    """Print which rows apply to nobody: their nodesets may not be what was meant."""
    for number, row in enumerate(rows, start=1):
        if row.get("Components") == 0:
            name = shown(row["Match"], _WIDTH)
            run.terminal.note(f"row {number} ({name}) applies to no component that is tracked")
