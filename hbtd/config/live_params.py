"""The current parameters of a running hbtd, and the functions that are called when they change."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twisted.logger import Logger

from hbtd.config.params import PARAMETERS, Params
from hbtd.config.suggestions import did_you_mean
from hbtd.formats.go_json import pick

_MOST_UNKNOWN = 10
"""The most unknown names in a `PATCH /params` that get a warning each."""

_LONGEST_SHOWN = 256
"""The most characters of a parameter's value that a log line repeats."""

_LONGEST_NAME = 40
"""The most characters of an unknown name that a warning repeats."""


class ParamsRefused(Exception):
    """Raised when a change of parameters is refused; the message says why."""


def patched(params: Params, changes: Mapping[str, object]) -> Params:
    """Return `params` with the changes of a `PATCH /params` (docs/protocol.md, Parameters).

    `changes` is the request's JSON object. Names match case-insensitively, unknown names are
    ignored, and empty texts and nulls change nothing. If any of the changes can't be made, raise
    `ParamsRefused` with the reasons.
    """
    values = pick(changes, [parameter.wire for parameter in PARAMETERS])
    asked = list(zip(PARAMETERS, values, strict=True))
    for parameter, value in asked:
        if value is not None and not isinstance(value, str):
            raise ParamsRefused(f"Invalid data type in {parameter.wire} field. ")
    reasons = ""
    wanted: dict[str, Any] = {}
    for parameter, value in asked:
        if not value:
            continue
        assert isinstance(value, str)
        name = parameter.name
        try:
            parsed = parameter.value_type.parse(value)
        except ValueError:
            parsed = None
        # The port is refused even when unchanged, as the original hbtd refuses it. Other fixed
        # parameters may come back unchanged, so that the answer of a GET can be sent again.
        if parameter.fixed and (name == "port" or parsed != getattr(params, name)):
            reasons += f"Parameter '{name}' can't be changed in PATCH operation; "
        elif parsed is None:
            reasons += f"Parameter '{name}' {parameter.value_type.refusal} '{value}'; "
        else:
            wanted[name] = parsed
    if reasons:
        raise ParamsRefused(reasons)
    return replace(params, **wanted)


def adopted(params: Params, values: Mapping[str, object]) -> Params:
    """Return `params`, changed to the values that another replica uses.

    `values` maps the parameters' names in JSON to texts. Values that can't be used are ignored, and
    so are values of parameters that can't be changed while hbtd runs.
    """
    wanted: dict[str, Any] = {}
    changeable = [parameter for parameter in PARAMETERS if not parameter.fixed]
    found = pick(values, [parameter.wire for parameter in changeable])
    for parameter, value in zip(changeable, found, strict=True):
        if isinstance(value, str):
            with suppress(ValueError):
                wanted[parameter.name] = parameter.value_type.parse(value)
    return replace(params, **wanted)


def warnings(changes: Mapping[str, object], params: Params) -> list[str]:
    """Return warnings about a `PATCH /params`: unknown names, and the results of `doubts`.

    `changes` is the JSON object of the request; `params` are the parameters after the change.
    """
    known = {parameter.wire.casefold(): parameter.wire for parameter in PARAMETERS}
    unknown = [name for name in changes if name.casefold() not in known]
    said = [
        f"There is no parameter {_shortened(name)!r}{did_you_mean(name, known.values())}"
        for name in unknown[:_MOST_UNKNOWN]
    ]
    if len(unknown) > _MOST_UNKNOWN:
        said.append(f"There are {len(unknown) - _MOST_UNKNOWN} more unknown names")
    return said + doubts(params)


def doubts(params: Params) -> list[str]:
    """Return warnings about values that are valid, but whose combination is probably a mistake."""
    if params.errtime > params.warntime:
        return []
    return [
        f"No component is warned about before it is declared dead: Warntime is {params.warntime} s,"
        f" Errtime {params.errtime} s"
    ]


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."


def _brief(value: str) -> str:
    """Return a value in quotes, shortened if necessary, for a log line."""
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."


def described(old: Params, new: Params) -> str:
    """Return a text for log lines that says which values differ between `old` and `new`."""
    before, after = old.rendered(), new.rendered()
    changes = [
        f"{wire} is {_brief(value)}, was {_brief(before[wire])}"
        for wire, value in after.items()
        if value != before[wire]
    ]
    return "; ".join(changes) or "nothing changed"


class LiveParams:
    """The current parameters, and the listeners: functions that are called when they change."""

    _log = Logger()

    def __init__(self, params: Params) -> None:
        self._current = params
        self._listeners: list[Callable[[Params, Params], None]] = []

    @property
    def current(self) -> Params:
        """The current parameters."""
        return self._current

    def on_change(self, listener: Callable[[Params, Params], None]) -> None:
        """Call `listener(old, new)` after every change of parameters from now on.

        `old` and `new` are the values of all parameters before and after the change.
        """
        self._listeners.append(listener)

    def patch(self, changes: Mapping[str, object]) -> Params:
        """Make the changes of a `PATCH /params`, call the listeners, and return the parameters.

        `changes` is the request's JSON object. If a change can't be made, raise `ParamsRefused`,
        and change nothing. If a listener raises an exception, undo the changes, and raise the
        exception again. The changes are not logged here, but by the caller.
        """
        self._replace(patched(self._current, changes))
        return self._current

    def adopt(self, values: Mapping[str, object]) -> None:
        """Change parameters to another replica's `values`; call the listeners, and log the changes.

        Values that can't be used are ignored, as by the function `adopted`.
        """
        old = self._current
        self._replace(adopted(old, values))
        if self._current != old:
            self._log.info(
                "Parameters changed through another replica: {changes}.",
                changes=described(old, self._current),
            )

    def _replace(self, new: Params) -> None:
        old = self._current
        if new == old:
            return
        self._current = new
        called = []
        try:
            for listener in self._listeners:
                called.append(listener)
                listener(old, new)
        except Exception:
            self._undo(old, new, called)
            raise

    def _undo(
        self, old: Params, new: Params, called: Sequence[Callable[[Params, Params], None]]
    ) -> None:
        """Restore the `old` parameters, and tell the listeners in `called` so, the last one first.

        These listeners have been called for the change from `old` to `new`, and are now called for
        the change back. If the `new` parameters stayed, a retry of the change would find nothing to
        change, and call no listener.
        """
        self._current = old
        for listener in reversed(called):
            try:
                listener(new, old)
            except Exception:  # noqa: BLE001  # the other listeners have to be told all the same
                self._log.failure(
                    "A change of parameters failed, and because of a bug in hbtd a part of hbtd"
                    " could not return to the old values; restart hbtd."
                )
