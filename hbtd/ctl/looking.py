"""The commands of hbtctl that show something once: `status`, `list`, `why`, `history`."""

from collections.abc import Callable
from typing import Any

from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import NO, YES, Misused
from hbtd.ctl.invocation import Invocation, server_states
from hbtd.ctl.names import hint
from hbtd.ctl.times import full_time, shown_seconds, shown_time
from hbtd.formats.counts import counted
from hbtd.formats.nodesets import fold

Component = dict[str, Any]

_SUFFIXES = {"waiting": "*", "set aside": "!", "in doubt": "~", "contested": "?"}

COLUMNS: dict[str, tuple[str, Callable[[Component], str]]] = {
    "xname": ("XNAME", lambda c: shown(c["XName"])),
    "type": ("TYPE", lambda c: shown(c.get("Type"))),
    "hostname": ("HOSTNAME", lambda c: shown(c.get("Hostname"), 64) or "-"),
    "nid": ("NID", lambda c: shown(c.get("NID"), 20) or "-"),
    "state": ("STATE", lambda c: shown_state(c)),
    "flapping": ("FLAPPING", lambda c: "yes" if c.get("Flapping") else "-"),
    "since": ("SINCE", lambda c: shown_time(c.get("Since"))),
    "last": ("LAST", lambda c: shown_time(c.get("LastHeartbeat"))),
    "age": ("AGE", lambda c: shown_seconds(c.get("Age"))),
    "status": ("STATUS", lambda c: shown(c.get("Status"), 64) or "-"),
    "timestamp": ("TIMESTAMP", lambda c: shown(c.get("Timestamp"), 40) or "-"),
    "source": ("SOURCE", lambda c: shown_source(c) or "-"),
    "hsm": ("HSM", lambda c: shown_hsm(c.get("HSM"))),
    "maintenance": ("MAINTENANCE", lambda c: shown_maintenance(c.get("Maintenance"))),
}
"""The columns that `list` can print, by name: pairs of a header and a function.

The function takes a component and returns the text to print for it in the column.
"""

_TABLE = ("xname", "nid", "state", "since", "age", "hsm")


def shown_state(component: Component) -> str:
    """Return the state of a component, with a suffix if HSM may not have been told of it.

    The state of a component that is silent, and not warned about, is `maintenance`; that of one
    whose death the guard lets wait is `held`.
    """
    hsm = component.get("HSM") or {}
    state = component.get("State")
    if state == "healthy" and (component.get("Maintenance") or {}).get("Silent"):
        state = "maintenance"
    elif state != "dead" and (component.get("Disruption") or {}).get("HeldUntil"):
        state = "held"
    return shown(state, 20) + _SUFFIXES.get(str(hsm.get("State")), "")


def shown_maintenance(found: dict[str, Any] | None) -> str:
    """Return a text about the maintenance that a component is in; `-` if it is in none."""
    if not found:
        return "-"
    back = " or back" if found.get("Back") else ""
    text = f"{shown(found.get('Id'))} until {shown_time(found.get('Until'))}{back}"
    return text + (f": {shown(found['Reason'], 60)}" if found.get("Reason") else "")


def shown_source(component: Component) -> str:
    """Return, as text, the address that a component's last heartbeat came from."""
    return shown(component.get("Source"), 45)


def shown_hsm(hsm: dict[str, Any] | None) -> str:
    """Return a text that says whether HSM was told of a component's state or, if not, why.

    `hsm` is the field `HSM` of the component in hbtd's answer. Return `-` if the field is `None`,
    or if hbtd does not know whether HSM was told.
    """
    if not hsm or hsm.get("State") in (None, "unknown"):
        return "-"
    text = shown(hsm["State"], 20)
    if hsm.get("At"):
        text += f" {shown_time(hsm['At'])}"
    return text + (f": {shown(hsm['Reason'])}" if hsm.get("Reason") else "")


def status(run: Invocation) -> int:
    """Print the number of components in each state, and the parts of the machine that are silent.

    With `--check`, the exit status is 1 if a component is warned about or dead, and not in
    maintenance.
    """
    summary = run.api.get("/summary")
    counts = summary["Counts"]
    if run.json:
        run.terminal.line(shown_json(summary))
    else:
        for line in status_lines(run, summary):
            run.terminal.line(line)
    spared = summary.get("Maintenance", {})
    alarms = counts["warned"] + counts["dead"] - spared.get("Warned", 0) - spared.get("Dead", 0)
    return NO if alarms > 0 and run.options.check else YES


def status_lines(run: Invocation, summary: dict[str, Any]) -> list[str]:
    """Return the lines that `status` and `watch` print for an answer of `GET /summary`."""
    counts, hsm = summary["Counts"], summary.get("HSM") or {}
    parts = [
        run.terminal.paint(f"{counts[state]} {state}", state if counts[state] else "")
        for state in ("healthy", "warned", "dead")
    ]
    lines = [f"{counted(counts['total'], 'component')}: {', '.join(parts)}"]
    ready = "ready" if hsm.get("Ready") else "not ready"
    if not hsm.get("Told", True):
        ready = "left alone (nosm)"
    waiting = counted(hsm.get("Waiting", 0), "change waits", "changes wait")
    aside = f", {shown(hsm['SetAside'])} set aside" if hsm.get("SetAside") else ""
    found = hsm.get("Table") or {}
    if found.get("Wrong"):
        aside += f", its table was wrong about {shown(found['Wrong'])}"
    if hsm.get("Absent"):
        aside += f", {counted(hsm['Absent'], 'node')} absent"
    who = shown(summary.get("Replica")) or "-"
    if not summary.get("Leading", True):
        who += f", which follows {shown(summary.get('Leader')) or '(no leader is known)'}"
    lines.append(f"HSM {ready}, {waiting}{aside}; replica {who}; {shown_time(summary['At'])} UTC")
    found = summary.get("Maintenance")
    if found:
        away = f", {shown(found['Away'])} away" if found.get("Away") else ""
        number = counted(found["Components"], "component")
        lines.append(f"  in maintenance: {number}, {shown(found['Silent'])} of them silent{away}")
    for each in summary.get("Disruptions") or ():
        until = each.get("HeldUntil")
        waits = f"; deaths in it wait until {shown_time(until)} UTC at most" if until else ""
        lines.append(run.terminal.paint(f"  {shown(each['Text'])}{waits}", "warned"))
    for group in summary.get("Groups") or ():
        state = "dead" if group.get("Dead") else "warned"
        lines.append(run.terminal.paint(f"  {shown(group['Text'])}", state))
    if summary.get("Silent"):
        more = f" and {shown(summary['More'])} more" if summary.get("More") else ""
        text = f"  also silent: {shown(summary['Silent'], 2000)}{more}"
        lines.append(run.terminal.paint(text, "warned"))
    return lines


def list_components(run: Invocation) -> int:
    """Print the selected components, by default as a table with one component per line.

    The exit status is 1 if a component named on the command line is not tracked.
    """
    options = run.options
    columns = _columns(options.columns, wide=options.output == "wide")
    state = server_states(options.state, "maintenance")
    query = {"state": state, "type": options.type, "under": options.under}
    if options.flapping:
        query["flapping"] = "true"
    answer = run.components(run.names(), query, options.limit)
    components = answer["Components"]
    if run.json:
        run.terminal.line(shown_json(answer))
    elif options.output == "nodeset":
        run.terminal.line(shown(fold(c["XName"] for c in components), 1 << 30))
    else:
        rows = [[COLUMNS[name][1](c) for name in columns] for c in components]
        run.terminal.table(
            [COLUMNS[name][0] for name in columns],
            rows,
            [c.get("State", "") for c in components],
            titles=options.headers,
        )
    if answer["Next"] and not run.json:
        run.terminal.note(f"there are more than {options.limit} (--limit)")
    return _unknown(run, answer["Unknown"])


def _columns(text: str | None, *, wide: bool) -> tuple[str, ...]:
    if text is None:
        return tuple(COLUMNS) if wide else _TABLE
    names = tuple(name.strip().lower() for name in text.split(","))
    wrong = [name for name in names if name not in COLUMNS]
    if wrong:
        raise Misused(f"--columns: no column {wrong[0]!r}; there are {', '.join(COLUMNS)}")
    return names


def _unknown(run: Invocation, unknown: str) -> int:
    if not unknown:
        return YES
    run.terminal.note(f"not tracked: {unknown}{hint(unknown)}")
    return NO


def why(run: Invocation) -> int:
    """Print all that hbtd knows of the named components, and why each is in its state.

    The exit status is 1 if one of the components is not tracked.
    """
    from urllib.parse import quote

    status = YES
    for i, name in enumerate(_single(run)):
        answer = run.api.call("GET", f"/components/{quote(name, safe='')}", expected=(404,))
        if answer.status == 404:
            reason = _detail(answer.json()) or f"{name} is not tracked"
            run.terminal.note(reason + (hint(name) or _by_xname(name)))
            status = NO
        elif run.json:
            run.terminal.line(shown_json(answer.json()))
        else:
            if i:
                run.terminal.line()
            _explain(run, answer.json())
    return status


def _single(run: Invocation) -> list[str]:
    """Return the names on the command line one by one; hbtd is asked to expand nodesets."""
    names = run.names()
    if not any(char in names for char in "[,"):
        return [names]
    answer = run.components(names, {})
    unknown = [answer["Unknown"]] if answer["Unknown"] else []
    return [c["XName"] for c in answer["Components"]] + unknown


def _by_xname(name: str) -> str:
    """Return a remark that the log has components by xname only; empty if `name` is an xname."""
    return "" if name.startswith("x") else "; the log knows those no longer tracked by xname only"


def _detail(problem: Any) -> str:
    return str(problem.get("detail") or "") if isinstance(problem, dict) else ""


def _explain(run: Invocation, c: Component) -> None:
    reasons = c.get("Why") or {}
    line = run.terminal.line
    known = [shown(c.get("Type")), shown(c.get("Hostname"), 64)]
    known += [f"NID {shown(c['NID'], 20)}"] if c.get("NID") else []
    line(f"{shown(c['XName'])} ({', '.join(filter(None, known))})")
    since = f" since {shown_time(c['Since'])}" if c.get("Since") else ""
    line(run.terminal.paint(f"{shown_state(c)}{since}", c["State"]))
    _fact(run, "why", shown(reasons.get("Text"), 1000))
    last = f"{shown_time(c.get('LastHeartbeat'))}, {shown_seconds(c.get('Age'))} ago"
    source = f" from {shown_source(c)}" if c.get("Source") else ""
    _fact(run, "last heartbeat", last + source if c.get("LastHeartbeat") else "not known")
    if c.get("Status") or c.get("Timestamp"):
        _fact(
            run,
            "it said",
            f"status {shown(c.get('Status'), 64)}, time {shown(c.get('Timestamp'), 40)}",
        )
    mean = reasons.get("MeanPeriod")
    if mean is not None:
        deviation, gap = reasons.get("Deviation") or 0.0, reasons.get("LongestGap")
        _fact(
            run,
            "its period",
            f"{mean:.2f} s on average, ± {deviation:.2f} s; longest gap {gap or 0.0:.1f} s",
        )
    warntime, errtime = shown(reasons.get("Warntime")), shown(reasons.get("Errtime"))
    threshold = shown(reasons.get("Threshold"), 100)
    by = f", by the threshold {threshold}" if threshold else ""
    _fact(run, "limits", f"warned after {warntime} s of silence, dead after {errtime} s{by}")
    if reasons.get("Changes"):
        flapping = ", flapping" if c.get("Flapping") else ""
        _fact(run, "state changes", f"{shown(reasons['Changes'])} within the last hour{flapping}")
    if reasons.get("Delay"):
        _fact(run, "judged later", shown(reasons["Delay"], 1000))
    if c.get("Disruption"):
        _fact(run, "guard", _shown_disruption(c["Disruption"]))
    _fact(run, "HSM", shown_hsm(c.get("HSM")))
    if c.get("Maintenance"):
        _fact(run, "maintenance", shown_maintenance(c["Maintenance"]))
    hindrances = reasons.get("Hindrances") or []
    if hindrances:
        line("what hindered hbtd meanwhile:")
    for each in hindrances:
        line(f"  {hindrance_line(each)}")
    transitions = c.get("Transitions") or []
    if transitions:
        line("transitions, newest first:")
    for each in transitions:
        line(f"  {transition_line(each)}")


def _shown_disruption(disruption: dict[str, Any]) -> str:
    text = f"{shown(disruption['Domain'])} is disrupted since {shown_time(disruption['At'])}"
    until = disruption.get("HeldUntil")
    return text + (f"; held until {shown_time(until)} at most" if until else "")


def _fact(run: Invocation, name: str, text: str) -> None:
    run.terminal.line(f"  {name:15} {text if run.terminal.draws else text.replace('±', '+-')}")


def hindrance_line(entry: Component) -> str:
    """Return one line of text about a hindrance, given as its JSON object in an answer of hbtd."""
    end = f"to {shown_time(entry['End'])}" if entry.get("End") else "until now".ljust(22)
    length = shown_seconds(entry.get("Seconds"))
    kind, cause = shown(entry.get("Kind"), 20), shown(entry.get("Cause"), 200)
    return f"{shown_time(entry.get('Begin'))} {end}  {length:>7}  {kind:11}  {cause}"


def transition_line(entry: Component, *, named: bool = False) -> str:
    """Return one line of text about a transition.

    `entry` is the JSON object of the transition, from an answer or an event of hbtd. If `named` is
    true, the line includes the component's name.
    """
    who = f"{shown(entry['XName']):16} " if named else ""
    judge = f" ({shown(entry['Judge'], 60)})" if entry.get("Judge") else ""
    return (
        f"{shown_time(entry.get('At'))}  {who}{shown(entry.get('Transition'), 12):10}"
        f"{shown(entry.get('Why'))}{judge}"
    )


def flapping_line(mark: Component) -> str:
    """Return one line of text about an event that says that a component's mark begins or ends."""
    what = "flapping" if mark.get("Flapping") else "steady"
    return (
        f"{shown_time(mark.get('At'))}  {shown(mark['XName']):16} {what:10}"
        f"{shown(mark.get('Changes'))} state changes within the last hour"
    )


def history(run: Invocation) -> int:
    """Print past transitions or, with `--at=TIME`, the states of the components at that time."""
    options = run.options
    query: dict[str, object] = {"under": options.under}
    if options.at:
        query |= {"at": full_time(options.at), "state": server_states(options.state)}
        key = "Components"
    else:
        if options.state:
            raise Misused("--state needs --at")
        order = "newest" if options.newest else "oldest"
        since, until = full_time(options.since), full_time(options.until)
        query |= {"since": since, "until": until, "order": order}
        key = "Entries"
    found, page = _history_pages(run, query, key)
    if run.json:
        run.terminal.line(shown_json({**page, key: found}))
        return YES
    if options.output == "nodeset":
        run.terminal.line(shown(fold(c["XName"] for c in found), 1 << 30))
    elif key == "Components":
        rows = [[shown(c["XName"]), shown(c["State"]), shown_time(c["Since"])] for c in found]
        states = [c["State"] for c in found]
        run.terminal.table(("XNAME", "STATE", "SINCE"), rows, states, titles=options.headers)
    else:
        rows = [
            [shown_time(e.get("At")), shown(e["XName"]), shown(e.get("From")) or "-",
             shown(e.get("To")), shown(e.get("Transition")), shown(e.get("Why"))]
            for e in found
        ]  # fmt: skip
        headers = ("TIME", "XNAME", "FROM", "TO", "TRANSITION", "WHY")
        states = [e.get("To", "") for e in found]
        run.terminal.table(headers, rows, states, titles=options.headers)
    if not page.get("Complete", True):
        run.terminal.note("the log does not reach so far back: some components may be missing")
    if page.get("Next"):
        run.terminal.note(f"there are more than {options.limit}; --limit 0 shows all")
    elif not found and options.names:
        names = ",".join(options.names)
        run.terminal.note(f"nothing of this is in the log: {shown(names, 200)}{hint(names)}")
    return YES


def _history_pages(
    run: Invocation, query: dict[str, object], key: str
) -> tuple[list[Component], dict[str, Any]]:
    """Return what is listed under `key` on all pages of `GET /history`, and the last page."""
    found: list[Component] = []
    page: dict[str, Any] = {}
    for page in run.pages("/history", {**query, "names": run.names()}, run.options.limit):
        found += page[key]
        run.terminal.progress(f"{len(found)} entries")
    run.terminal.clear_progress()
    return found, page
