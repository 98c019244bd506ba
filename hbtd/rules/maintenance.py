"""Maintenance: a time in which the silence of some components is no alarm; its end is given.

An operator sets it for any number of components. A node that is about to shut down sets it for
itself: it says that it will be *away*. This module has the rules without I/O: how both are kept as
texts among the settings of the store, and which requests for them are refused.
"""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, NamedTuple

from hbtd.formats.times import format_time, parse_time

MAINTENANCE: Final = "maintenance"
"""The kind of the settings that operators make, with an identifier as the name of each."""
AWAY: Final = "away"
"""The kind of the settings that nodes make; the name is the component's xname."""

MOST: Final = 1000
"""The most maintenances that operators may have set at a time."""
MOST_NAMES: Final = 1_000_000
"""The most components in one maintenance."""
MOST_NAMES_IN_ALL: Final = 2_000_000
"""The most components in all maintenances that operators have set; overlaps count each time."""
LONGEST_NODESET: Final = 256 * 1024
"""The most characters of the nodeset of one maintenance."""
LONGEST_SHORTENED: Final = 1024 * 1024
"""The most characters of a nodeset that has become longer because some of its names have left."""
LONGEST_NODESETS: Final = 16 * 1024 * 1024
"""The most characters of the nodesets of all maintenances; etcd's answers have 64 MiB at most."""
LONGEST: Final = 365 * 86400
"""The most seconds that any maintenance may last, whatever the option `maintenance_max` says."""
SHORTEST: Final = 0.001
"""The least seconds for which one can be set: Unix times in seconds hardly differ by less."""
LONGEST_TEXT: Final = 256
"""The most characters of a reason, and of the name of whoever has set a maintenance."""

UNDER_WAY: Final = 2.0
"""Seconds after a node has said that it will be away in which a heartbeat is no return.

It may have been sent before, and have been under way, also between two replicas.
"""

_AWAY_ID: Final = "away-"


class MaintenanceRefused(ValueError):
    """Raised for a request about maintenance that can't be granted; the message says why."""


class End(NamedTuple):
    """The end of a maintenance, as a request gives it."""

    at: float
    """The Unix time, in seconds, of the request."""
    until: float
    """The Unix time, in seconds, at which it ends at the latest."""
    back: bool
    """Whether it ends for each component when that is back: with its first heartbeat after a
    silence of `Warntime`."""


class Maintenance(NamedTuple):
    """A maintenance, as it is kept in the store."""

    kind: str
    """`MAINTENANCE` or `AWAY`."""
    name: str
    """The name of the setting; of the kind `AWAY`, the xname of the component."""
    nodeset: str
    """The components that are in it, xnames in normal form, as one nodeset."""
    at: float
    """The Unix time, in seconds, at which its end was given."""
    until: float
    """The Unix time, in seconds, at which it ends at the latest."""
    back: bool
    """Whether it ends for each component when that is back (`End.back`)."""
    reason: str = ""
    """Why it was set, in the words of whoever has set it; perhaps empty."""
    by: str = ""
    """Who has set it, in his own words; perhaps empty."""

    @property
    def id(self) -> str:
        """The identifier by which the API knows it."""
        return id_of(self.kind, self.name)

    @property
    def away(self) -> bool:
        """Whether the component itself has said that it will be away."""
        return self.kind == AWAY

    @property
    def given(self) -> tuple[float, float]:
        """The Unix times, in seconds, at which its end was given, and of the end itself."""
        return self.at, self.until

    @property
    def seconds(self) -> float:
        """How long it lasts at most, in seconds from when its end was given."""
        return self.until - self.at

    def text(self) -> str:
        """Return the text that is kept in the store."""
        fields = {
            "At": self.at,
            "Until": self.until,
            "Back": self.back,
            "Reason": self.reason,
            "By": self.by,
            "XNames": "" if self.away else self.nodeset,
        }
        return json.dumps(fields, separators=(",", ":"))

    def show(self, until: float) -> dict[str, object]:
        """Return the fields that the API shows of it wherever it appears.

        `until` is the Unix time of its end, by the clock of the replica that answers.
        """
        return {
            "Id": self.id,
            "Until": format_time(until),
            "Back": self.back,
            "Reason": self.reason,
            "By": self.by,
        }


def id_of(kind: str, name: str) -> str:
    """Return the identifier of the maintenance that is kept as a setting."""
    return _AWAY_ID + name if kind == AWAY else name


def key_of(id: str) -> tuple[str, str]:
    """Return the kind and the name of the setting of a maintenance."""
    if id.startswith(_AWAY_ID):
        return AWAY, id.removeprefix(_AWAY_ID)
    return MAINTENANCE, id


def parse(kind: str, name: str, text: str) -> Maintenance | None:
    """Return the maintenance that a setting has; `None` if the text is not one of a maintenance."""
    try:
        fields = json.loads(text)
        at, until = float(fields["At"]), float(fields["Until"])
        nodeset = name if kind == AWAY else fields["XNames"]
        texts = (nodeset, fields["Reason"], fields["By"])
        back = fields["Back"]
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    if not all(isinstance(each, str) for each in texts) or not isinstance(back, bool):
        return None
    if not (at >= 0 and 0 < until - at <= LONGEST) or not nodeset:
        return None
    return Maintenance(kind, name, nodeset, at, until, back, texts[1], texts[2])


def read_end(fields: Mapping[str, Any], now: float, longest: float) -> End:
    """Return the end that `For` and `Until` in a request give; `now` is the Unix time.

    `For` is in seconds. `Until` is a time, or `back`; with `back` a limit may be given by `For`,
    and is `longest` otherwise, in seconds from now. Raise `MaintenanceRefused` unless there is an
    end, which is later than now and no more than `longest` seconds from now.
    """
    seconds, until = fields.get("For"), fields.get("Until")
    back = isinstance(until, str) and until.strip().lower() == "back"
    if seconds is None and until is None:
        raise MaintenanceRefused('An end is needed: For, in seconds, or Until, a time or "back"')
    if seconds is not None and until is not None and not back:
        raise MaintenanceRefused("For and Until can't both give the end; leave one of them out")
    if seconds is not None:
        end = now + _positive(seconds)
    elif back:
        end = now + longest
    else:
        end = _time(until, now)
    if end <= now:
        raise MaintenanceRefused(
            f"Until must be later than now, which is {format_time(now)} by hbtd's clock"
        )
    if end - now > longest + 1e-3:
        raise MaintenanceRefused(
            f"The end may be {longest:g} s from now at most (--maintenance_max), and not"
            f" {end - now:.0f} s"
        )
    return End(now, min(end, now + longest), back)


def read_seconds(fields: Mapping[str, Any], longest: float) -> float:
    """Return the seconds for which a node says that it will be away, from `For` in its request.

    Raise `MaintenanceRefused` unless they are more than 0, and no more than `longest`.
    """
    seconds = fields.get("For")
    if seconds is None:
        raise MaintenanceRefused("For is needed: the seconds within which the component is back")
    found = _positive(seconds)
    if found > longest:
        raise MaintenanceRefused(f"For may be {longest:g} s at most (--maintenance_max)")
    return found


def read_text(fields: Mapping[str, Any], field: str) -> str:
    """Return a text in a request, empty if there is none.

    Raise `MaintenanceRefused` if it is no text, or has more than 256 characters.
    """
    text = fields.get(field)
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise MaintenanceRefused(f"{field} must be a text of at most {LONGEST_TEXT} characters")
    return text.strip()


def _positive(seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise MaintenanceRefused("For must be a number of seconds")
    if not (isfinite(seconds) and seconds > 0):
        raise MaintenanceRefused("For must be more than 0 seconds")
    if seconds < SHORTEST:
        raise MaintenanceRefused(f"For must be {SHORTEST:g} seconds at least")
    return float(min(seconds, 10 * LONGEST))


def _time(until: object, now: float) -> float:
    """Return the Unix time of `Until`."""
    try:
        if isinstance(until, str):
            return parse_time(until, now)
        if isinstance(until, int | float) and not isinstance(until, bool):
            return parse_time(f"{until:f}" if isinstance(until, float) else str(until), now)
    except (ValueError, OverflowError):
        pass
    raise MaintenanceRefused(
        'Until must be "back", or a time such as 2026-11-26T18:56:00Z, or Unix seconds'
    )
