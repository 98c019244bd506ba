"""The command `guard`: shows which failure domains are disrupted, and releases them."""

from typing import Any

from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import NO, YES, Misused
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.times import shown_time
from hbtd.formats.counts import counted

_STATEMENTS = 5
"""The statements that are printed."""

_WIDTH = 2000


def guard(run: Invocation) -> int:
    """Print what is disrupted and whose deaths wait or, with `release`, let them wait no more.

    With `--check`, the exit status is 1 if anything is disrupted.
    """
    options = run.options
    if options.action == "release":
        return _release(run)
    if options.domains or options.all:
        raise Misused("domains and --all are for `hbtctl guard release`")
    answer = run.api.get("/guard")
    if run.json:
        run.terminal.line(shown_json(answer))
    else:
        _show(run, answer)
    return NO if options.check and answer["Disruptions"] else YES


def _release(run: Invocation) -> int:
    """Release the domains that are named, or all; the status is 1 if one is not disrupted."""
    options, line = run.options, run.terminal.line
    if bool(options.domains) == bool(options.all):
        raise Misused("name the domains to release, or give --all")
    status = YES
    for domain in options.domains or (None,):
        body = {} if domain is None else {"Domain": domain}
        reply = run.api.call("POST", "/guard/release", body=body, expected=(404,))
        answer = reply.json()
        if reply.status == 404:
            run.terminal.note(shown(answer.get("detail")) or f"{domain} is not disrupted")
            status = NO
        elif run.json:
            line(shown_json(answer))
        elif answer["Released"]:
            what = shown(", ".join(answer["Released"]), _WIDTH)
            deaths = counted(answer["Components"], "death waits", "deaths wait")
            line(f"released {what}: {deaths} no more")
        else:
            line("nothing was disrupted")
    return status


def _show(run: Invocation, answer: dict[str, Any]) -> None:
    line = run.terminal.line
    mode = shown(answer["Mode"])
    does = f"deaths wait for at most {shown(answer['Hold'])} s" if mode == "hold" else "none waits"
    if mode == "off":
        line("the guard is off")
    else:
        groups = counted(answer["Groups"], "group")
        line(f"guard={mode}: from {shown(answer['Share'])} % of a domain on, {does}; {groups}")
    if not answer["Leading"]:
        leader = shown(answer.get("Leader")) or "(no leader is known)"
        line(f"this replica follows {leader}, which knows the members")
    for each in answer["Disruptions"]:
        line(run.terminal.paint(disruption_line(each, mode), "dead"))
        if each.get("XNames"):
            line(f"  {shown(each['XNames'], _WIDTH)}")
    if not answer["Disruptions"]:
        line("nothing is disrupted")
    if answer["Statements"]:
        line("said last, newest first:")
    for each in answer["Statements"][:_STATEMENTS]:
        line(f"  {statement_line(each)}")


def disruption_line(disruption: dict[str, Any], mode: str) -> str:
    """Return one line of text about a disruption, from the answer of `GET /guard`."""
    text = f"{shown(disruption['Domain'])} ({shown(disruption['Kind'])}) is disrupted since"
    text += f" {shown_time(disruption['At'])}: {shown(disruption['Away'])} members silent, in a"
    text += f" domain of {shown(disruption['Living'])} that were not dead"
    held = disruption.get("Held")
    if mode == "hold":
        who = "deaths wait" if held is None else counted(held, "death waits", "deaths wait")
        text += f"; {who} until {shown_time(disruption['Until'])} at most"
    if disruption.get("Includes"):
        text += f"; includes {shown(', '.join(disruption['Includes']), _WIDTH)}"
    return text


def statement_line(statement: dict[str, Any]) -> str:
    """Return one line of text about a statement of the guard, from an answer or an event."""
    return f"{shown_time(statement.get('At'))}  {shown(statement.get('Text'), 500)}"
