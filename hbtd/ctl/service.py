"""The commands about hbtd itself: `health` and `internals`."""

from collections.abc import Iterator
from typing import Any

from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import NO, YES
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.looking import hindrance_line


def health(run: Invocation) -> int:
    """Print whether hbtd is ready, the states of its store, of Kafka and of HSM, and hindrances.

    The exit status is 1 if hbtd is not ready.
    """
    answer = run.api.get("/health")
    ready = run.api.call("GET", "/readiness", expected=(503,)).status < 300
    if run.json:
        run.terminal.line(shown_json(answer))
    else:
        run.terminal.line(
            run.terminal.paint("ready" if ready else "NOT READY", "" if ready else "dead")
        )
        hindrances = answer.pop("Hindrances", [])
        for line in outline(answer, ""):
            run.terminal.line(line)
        if hindrances:
            run.terminal.line("what hinders hbtd, or did in the last ten minutes:")
        for each in hindrances:
            run.terminal.line(f"  {hindrance_line(each)}")
    return YES if ready else NO


def internals(run: Invocation) -> int:
    """Print the answer to `GET /internals`: the state of hbtd's internal parts."""
    answer = run.api.get("/internals")
    if run.json:
        run.terminal.line(shown_json(answer))
    else:
        for line in outline(answer, ""):
            run.terminal.line(line)
    return YES


def outline(value: Any, indent: str) -> Iterator[str]:
    """Yield lines that show a decoded JSON value; each line begins with the blanks in `indent`."""
    pairs = value.items() if isinstance(value, dict) else (("-", each) for each in value)
    for key, inner in pairs:
        name = shown(key) if key == "-" else f"{shown(key)}:"
        if isinstance(inner, dict | list) and inner:
            if isinstance(inner, dict) and _short(inner):
                facts = ", ".join(f"{shown(k)} {_scalar(v)}" for k, v in inner.items())
                yield f"{indent}{name} {facts}"
            else:
                yield f"{indent}{name}"
                yield from outline(inner, f"{indent}  ")
        else:
            yield f"{indent}{name} {_scalar(inner)}"


def _short(value: dict[str, Any]) -> bool:
    """Return whether a decoded JSON object is flat, and short enough to be printed on one line."""
    flat = not any(isinstance(each, dict | list) and each for each in value.values())
    return flat and sum(len(str(k)) + len(str(v)) + 3 for k, v in value.items()) < 90


def _scalar(value: Any) -> str:
    if value is None or value == {} or value == [] or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return shown(value)
