"""The command `whatif`: how many alarms there would have been with other limits."""

from typing import Any

from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import YES
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.times import full_time, shown_time
from hbtd.formats.counts import counted

_WIDTH = 2000
"""The most characters of a nodeset that are printed."""

_MOST_NAMED = 1000
"""The most components that hbtd names in each nodeset."""


def whatif(run: Invocation) -> int:
    """Print how many warnings and deaths there would have been with other limits, and of whom."""
    options = run.options
    query = {
        "warntime": options.warntime,
        "errtime": options.errtime,
        "since": full_time(options.since),
    }
    answer = run.api.get("/whatif", query)
    if run.json:
        run.terminal.line(shown_json(answer))
        return YES
    limits = f"Warntime {shown(answer['Warntime'])} s and Errtime {shown(answer['Errtime'])} s"
    run.terminal.line(f"with {limits}, since {shown_time(answer['Since'])}:")
    _show(run, "warnings", "warned", answer["Warnings"])
    _show(run, "deaths", "dead", answer["Deaths"])
    _note_missing(run, answer)
    return YES


def _show(run: Invocation, name: str, state: str, alarms: dict[str, Any]) -> None:
    number, returned = alarms["Number"], alarms["Returned"]
    text = f"  {name:10}{shown(number)}"
    if number:
        who = counted(alarms["Components"], "component")
        back = "all" if returned == number else shown(returned) if returned else "none"
        text += f", of {shown(who)}; {back} of them came back"
    run.terminal.line(run.terminal.paint(text, state if number else ""))
    if number:
        run.terminal.line(f"            {_names(alarms)}")


def _names(group: dict[str, Any]) -> str:
    more = group["Components"] - _MOST_NAMED
    return shown(group["XNames"], _WIDTH) + (f" and {more} more" if more > 0 else "")


def _note_missing(run: Invocation, answer: dict[str, Any]) -> None:
    """Say what the numbers don't include."""
    floor = answer["Floor"]
    if not answer["Complete"]:
        whole = shown_time(answer["WholeSince"])
        run.terminal.note(f"long silences are known since {whole} only: there may be more alarms")
    if floor["Components"]:
        who = counted(floor["Components"], "component")
        run.terminal.note(
            f"with limits above {floor['Seconds']} s the numbers are exact; with these there may be"
            f" more alarms, of {who}: {_names(floor)}"
        )
    elif floor["Seconds"] >= min(answer["Warntime"], answer["Errtime"]):
        run.terminal.note(
            f"periods of up to {floor['Seconds']} s were not kept, of components that began anew or"
            " are gone, or as hbtd itself began: there may be more alarms"
        )
