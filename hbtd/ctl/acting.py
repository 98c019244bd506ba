"""The commands of hbtctl that wait or change something: `wait`, `send`, `forget`, `params`."""

import socket
import time
from typing import Any

from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import NO, UNREACHABLE, YES, Busy, Failure, Misused, Unreachable
from hbtd.ctl.invocation import Invocation, server_states
from hbtd.ctl.names import hint, portions
from hbtd.formats.nodesets import fold
from hbtd.formats.times import format_time

_STATES = {"healthy", "warned", "dead"}
_GONE = "gone"
_LONGEST_SLEEP = 1.0
"""The most seconds for which Ctrl-C may go unnoticed."""


def wait(run: Invocation) -> int:
    """Wait until each of the named components is in one of the states that `--state` lists.

    hbtd is asked repeatedly, for `--timeout` seconds at most. After that time, the exit status is 1
    if some components are in other states, and 3 if hbtd could not be reached or was busy when last
    asked.
    """
    options = run.options
    names = run.names()
    wanted = set((server_states(options.state or ",", _GONE) or "").split(","))
    if not names and not options.under:
        raise Misused("no names: give the components to wait for, or --under")
    deadline = run.clock() + options.timeout
    failed: Failure | None = None
    said = False
    while True:
        try:
            missing, text = _missing(run, names, wanted)
            failed = None
        except (Unreachable, Busy) as error:
            failed = error
            if not said:
                run.terminal.note(f"{error}; trying again")
                said = True
        if failed is None and not missing:
            if not options.quiet:
                run.terminal.line(f"{shown(names or options.under, 2000)}: {options.state}")
            return YES
        left = deadline - run.clock()
        if left <= 0:
            if failed is not None:
                run.terminal.note(str(failed))
                return UNREACHABLE
            run.terminal.note(f"not {options.state} within {options.timeout:g} s: {text}")
            return NO
        if failed is None:
            run.terminal.progress(f"not yet {options.state}: {text}")
        run.sleep(min(options.interval, left))


def _missing(run: Invocation, names: str, wanted: set[str]) -> tuple[bool, str]:
    """Return whether any component is in a state that is not `wanted`, and a text with their names.

    `names` is the nodeset of the components to look at, empty for all in `--under`. hbtd is asked
    only for those in other states, so that its answer is short when few are left.
    """
    others, under = _STATES - wanted, run.options.under
    query = {"under": under}
    answer = run.components(names, {**query, "state": ",".join(sorted(others or _STATES))})
    found = [c["XName"] for c in answer["Components"]] if others else []
    parts = [fold(found)] if found else []
    if answer["Unknown"] and _GONE not in wanted:
        parts.append(f"{answer['Unknown']} (not tracked{hint(answer['Unknown'])})")
    in_doubt = not names and not found and _GONE not in wanted
    if in_doubt and not run.components(names, query, 1)["Components"]:
        # A part of the machine of which hbtd has yet to hear is not up.
        parts.append(f"nothing is tracked in {under}")
    return bool(parts), ", ".join(parts)


def send(run: Invocation) -> int:
    """Send heartbeats in the name of a component until Ctrl-C or, with `--count`, that many times.

    The exit status is 3 if the last attempt failed because hbtd could not be reached or was busy.
    """
    options = run.options
    body = {
        "Component": options.xname,
        "Hostname": options.hostname or socket.gethostname(),
        "NID": options.nid,
        "Status": options.status,
    }
    sent, failed = 0, False
    due = run.clock()
    try:
        while True:
            at = format_time(time.time())
            try:
                run.api.call("POST", "/heartbeat", body={**body, "Timestamp": at})
            except (Unreachable, Busy) as error:
                if not failed:
                    run.terminal.note(f"{error}; trying again every {options.period:g} s")
                failed = True
            except Misused as error:
                if "Component Name" not in str(error):
                    raise
                raise Misused(
                    f"{error}: {shown(options.xname)} is no xname such as x1000c0s0b0n0,"
                    " with a chassis from c0 to c7"
                ) from None
            else:
                if failed:
                    run.terminal.note("heartbeats are taken again")
                sent, failed = sent + 1, False
                if sent == 1 and not options.count:
                    every = f"every {options.period:g} s until Ctrl-C"
                    run.terminal.line(f"{shown(options.xname)} beats {every}")
                    run.terminal.out.flush()
            options.count -= 1 if options.count else 0
            if options.count == 0 and options.counted:
                break
            due = max(due + options.period, run.clock())
            while (left := due - run.clock()) > 0:
                # A signal that arrives just before a sleep begins is noticed when it ends.
                run.sleep(min(left, _LONGEST_SLEEP))
    except KeyboardInterrupt:
        pass
    if options.leave:
        from urllib.parse import quote

        run.api.call("DELETE", f"/heartbeat/{quote(options.xname, safe='')}")
    run.terminal.line(f"{sent} heartbeats sent")
    return UNREACHABLE if failed else YES


_NOT_FORGOTTEN = {
    "Unknown": "not tracked",
    "TooSoon": "forgotten a moment ago already",
    "Ambiguous": "sent by several components, name them by their xnames",
}
"""The parts of the answer about what was not forgotten, and what each means."""


def forget(run: Invocation) -> int:
    """Make hbtd forget the named components.

    The exit status is 1 if some components are not forgotten: because they are not tracked, because
    they were forgotten less than `Errtime` seconds ago and are tracked again, because several
    components have sent the given host name or NID, or because the user does not confirm the
    command.
    """
    options = run.options
    names = run.names()
    if not names and not options.under:
        raise Misused("no names: give the components to forget, or --under")
    if options.under:
        found = run.components(names, {"under": options.under})["Components"]
        names = fold(each["XName"] for each in found)
        if not names:
            run.terminal.note(f"nothing of that is tracked in {options.under}")
            return NO
    if not options.yes:
        if not run.terminal.asks:
            raise Misused("this is no terminal to ask on: give --yes to have them forgotten")
        print(f"Forget {shown(names, 2000)}? [y/N] ", end="", file=run.terminal.err, flush=True)
        if run.terminal.stdin.readline().strip().lower() not in ("y", "yes"):
            run.terminal.note("nothing was forgotten")
            return NO
    answer = run.api.call("POST", "/forget", body={"XNames": list(portions(names))}).json()
    if run.json:
        run.terminal.line(shown_json(answer))
    else:
        which = f": {shown(answer['XNames'], 2000)}" if answer["XNames"] else ""
        run.terminal.line(f"{shown(answer['Forgotten'])} forgotten{which}")
    for key, meaning in _NOT_FORGOTTEN.items():
        if answer.get(key):
            run.terminal.note(f"{meaning}: {answer[key]}{hint(answer[key])}")
    return NO if any(answer.get(key) for key in _NOT_FORGOTTEN) else YES


def params(run: Invocation) -> int:
    """Change the parameters that are given as `NAME=VALUE`; then print their new values.

    Print the values of the parameters that are given by `NAME` alone, too. If no parameter is
    given, or with `--output json`, print every parameter.
    """
    words = run.options.parameters
    before = run.api.get("/params")
    known = {name.lower(): name for name in before}
    for before_it, word in zip(("", *words), words, strict=False):
        name = word.partition("=")[0]
        if name.lower() not in known:
            from hbtd.config.suggestions import did_you_mean

            if before_it.lower() in known:
                raise Misused(f"to change {before_it}, write {before_it}={word}")
            raise Misused(f"hbtd has no parameter {name!r}{did_you_mean(name, before)}")
    named = [known[word.partition("=")[0].lower()] for word in words]
    changes = {
        name: word.partition("=")[2] for name, word in zip(named, words, strict=True) if "=" in word
    }
    after = run.api.call("PATCH", "/params", body=changes).json() if changes else before
    if changes and _warns_nobody(after):
        run.terminal.note("Errtime is not above Warntime: nobody is warned before being dead")
    if run.json:
        run.terminal.line(shown_json(after))
        return YES
    rows = [_parameter(name, before, after) for name in named or after]
    run.terminal.table(("NAME", "VALUE"), rows, titles=run.options.headers)
    return YES


def _warns_nobody(parameters: dict[str, Any]) -> bool:
    """Return whether `Errtime` is at most `Warntime`, so that components die without a warning."""
    try:
        return float(parameters["Errtime"]) <= float(parameters["Warntime"])
    except (ValueError, KeyError):
        return False


def _parameter(name: str, before: dict[str, Any], after: dict[str, Any]) -> tuple[str, str]:
    old, new = shown(before.get(name)), shown(after.get(name))
    return shown(name), new if old == new else f"{new} (was {old or 'empty'})"
