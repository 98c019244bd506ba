"""The command `maintenance`: shows, sets, changes and ends maintenances."""

import getpass
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import NO, YES, Failure, Misused
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.names import hint, portions
from hbtd.ctl.times import full_time, shown_time
from hbtd.formats.counts import counted
from hbtd.formats.nodesets import fold

_WIDTH = 2000

_NOT_SET = {
    "Unknown": "not known, and not in it",
    "Ambiguous": "sent by several components, and not in it; name them by their xnames",
}
"""The parts of the answer about names that are not in the maintenance, and what each means."""


SHOWN_FIELDS = ("Id", "Until", "Back", "Number", "XNames")
"""The fields of a maintenance that a line about it needs."""


def notice_line(row: dict[str, Any]) -> str:
    """Return one line of text about an event that says what has become of a maintenance."""
    number = counted(row["Number"], "component")
    return (
        f"maintenance {shown(row['Id'])} {shown(row['What'])}: {_until(row)}; {number}:"
        f" {shown(row['XNames'], 200)}"
    )


def maintenance(run: Invocation) -> int:
    """Show maintenances, or set, change or end one, as the first argument says.

    The exit status is 1 if names that were given stand for no component.
    """
    actions = {"list": _list, "start": _start, "change": _change, "end": _end}
    return actions[run.options.action](run)


def _list(run: Invocation) -> int:
    if run.options.names:
        return _each(run, "GET", None, lambda row: "\n".join(_lines(row)))
    rows = [row for page in run.pages("/maintenance", {}) for row in page["Maintenance"]]
    if run.json:
        run.terminal.line(shown_json({"Maintenance": rows, "Next": None}))
        return YES
    headers = ("ID", "UNTIL", "BACK", "NUMBER", "BY", "REASON", "COMPONENTS")
    run.terminal.table(headers, [_columns(row) for row in rows], titles=run.options.headers)
    return YES


def _columns(row: dict[str, Any]) -> list[str]:
    return [
        shown(row["Id"]),
        shown_time(row["Until"]),
        "yes" if row["Back"] else "no",
        shown(row["Number"]),
        "-" if row["Away"] else shown(row["By"], 40) or "-",
        shown(row["Reason"], 60) or "-",
        shown(row["XNames"], 60),
    ]


def _lines(row: dict[str, Any]) -> list[str]:
    """Return the lines about one maintenance."""
    who = "said by the component itself" if row["Away"] else f"by {shown(row['By'], 256) or '-'}"
    parts = [f"{shown(row['Id'])}: {_until(row)}, {who}"]
    if row["Reason"]:
        parts.append(f"  reason      {shown(row['Reason'], 256)}")
    silent, untracked = shown(row["Silent"]), shown(row["Untracked"])
    number = counted(row["Number"], "component")
    parts.append(f"  in it       {number}: {silent} silent, {untracked} not tracked")
    parts.append(f"  components  {shown(row['XNames'], 1 << 20)}")
    return parts


def _until(row: dict[str, Any]) -> str:
    """Return until when a maintenance lasts, as text."""
    back = ", or until each is back" if row["Back"] else ""
    return f"until {shown_time(row['Until'])}{back}"


def _start(run: Invocation) -> int:
    options = run.options
    names = run.names()
    if options.under:
        found: list[str] = []
        for part in options.under:
            some = run.components(names, {"under": part})["Components"]
            if not some:
                run.terminal.note(f"nothing of that is tracked in {part}; no maintenance is set")
                return NO
            found += [each["XName"] for each in some]
        names = fold(found)
    if not names:
        raise Misused("no names: give the components to set it for, or --under")
    end = _ending(run)
    if not end:
        raise Misused("no end: give --for, such as --for 2h, or --until, a time or back")
    by = options.by if options.by is not None else _user()
    body = {"XNames": list(portions(names)), **end, "Reason": options.reason or "", "By": by}
    answer = run.api.call("POST", "/maintenance", body=body).json()
    run.terminal.line(shown_json(answer) if run.json else _line(answer))
    for key, meaning in _NOT_SET.items():
        if answer.get(key):
            run.terminal.note(f"{meaning}: {answer[key]}")
    if answer.get("Untracked"):
        untracked = answer["Untracked"]
        run.terminal.note(f"in it, but not tracked now: {shown(untracked, 300)}{hint(untracked)}")
    return NO if any(answer.get(key) for key in _NOT_SET) else YES


def _change(run: Invocation) -> int:
    body: dict[str, object] = dict(_ending(run))
    body |= {"Reason": run.options.reason} if run.options.reason is not None else {}
    body |= {"By": run.options.by} if run.options.by is not None else {}
    if not body:
        raise Misused("nothing to change: give --for, --until, --reason or --by")
    return _each(run, "PATCH", body, _line)


def _end(run: Invocation) -> int:
    def ended(row: dict[str, Any]) -> str:
        components = counted(row["Number"], "component")
        return f"{shown(row['Id'])} ended: {components} judged again, unless in another one"

    return _each(run, "DELETE", None, ended)


def _each(run: Invocation, method: str, body: object, text: Callable[[dict[str, Any]], str]) -> int:
    """Make a request about each maintenance that is named, and print what `text` says of it.

    The exit status is 1 if one of them is over, or never was.
    """
    if not run.options.names:
        raise Misused("no maintenance is named: `hbtctl maintenance` lists them with their IDs")
    status = YES
    for id in run.options.names:
        path = f"/maintenance/{quote(id, safe='')}"
        answer = run.api.call(method, path, body=body, expected=(404,))
        row = answer.json()
        if answer.status == 404:
            detail = str(row.get("detail"))
            if id not in detail:
                raise Failure("this hbtd is of an earlier release, which knows no maintenance")
            run.terminal.note(f"{detail} (hbtctl maintenance lists all with their IDs)")
            status = NO
        else:
            run.terminal.line(shown_json(row) if run.json else text(row))
    return status


def _line(row: dict[str, Any]) -> str:
    number, names = counted(row["Number"], "component"), shown(row["XNames"], _WIDTH)
    return f"{shown(row['Id'])}: {number} {_until(row)}: {names}"


def _ending(run: Invocation) -> dict[str, object]:
    """Return the fields of a request that say when a maintenance ends."""
    fields: dict[str, object] = {}
    if run.options.seconds is not None:
        fields["For"] = run.options.seconds
    if run.options.until is not None:
        # A time of day is the next one.
        fields["Until"] = full_time(run.options.until, datetime.now(UTC) + timedelta(days=1))
    return fields


def _user() -> str:
    """Return who runs this command, and where."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"[:256]
    except (OSError, KeyError):  # nobody has this user's number
        return socket.gethostname()[:256]
