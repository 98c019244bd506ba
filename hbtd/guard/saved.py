"""Disruptions as they are stored, for the next process or leader.

What is stored are ages, not times, because the observed clock of each process has its own zero. The
members are not stored, since the tracker of whoever comes next knows who is silent: a silence in
the domain that began early enough is one of the disruption (`Disruption.explains`).

Two replicas do not agree on when somebody was heard last: their observed clocks may have stood
still at different times, heartbeats reach them at different times, and so does what is stored. So
silences that began up to one `errtime` before the first one are of the disruption, too. Who fell
silent earlier than that is dead; who did not, and was no member, has hardly been overlooked.
"""

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from typing import Any

from hbtd.guard.disruptions import Disruption


def save(disruption: Disruption, now: float) -> dict[str, object]:
    """Return a disruption as a value for JSON; `now` is the current observed time."""
    return {
        **_save_times(disruption, now),
        "told": disruption.told,
        "includes": list(disruption.includes),
        "ended": None if disruption.active else round(now - disruption.ended, 3),
        "absorbed": [_save_times(each, now) for each in disruption.absorbed],
    }


def _save_times(disruption: Disruption, now: float) -> dict[str, object]:
    return {
        "domain": disruption.domain,
        "began": round(now - disruption.began, 3),
        "start": round(now - disruption.start, 3),
        "last": round(now - disruption.last, 3),
        "latest": round(now - disruption.latest, 3),
        "left": round(disruption.until - now, 3),
    }


def load(
    saved: object, then: float, known_since: float, counted: float | None = None
) -> Disruption | None:
    """Return the disruption that `save` has returned as `saved`; `None` if it is not valid.

    `then` is the observed time, on the clock of this process, at which it was saved. Silences that
    began before `known_since`, the start, may have begun earlier than they seem, so that the
    disruption explains them, too, and knows better when they did. What is left of it counts from
    `counted`, if that is given.
    """
    counted = then if counted is None else counted
    try:
        disruption = _load_times(saved, then, known_since, counted)
        assert isinstance(saved, Mapping)
        disruption.told = saved["told"] is True
        disruption.includes = tuple(map(_text, saved["includes"]))
        disruption.ended = inf if saved["ended"] is None else then - _age(saved["ended"])
        disruption.unsure = disruption.active
        disruption.absorbed = [
            _load_times(each, then, known_since, counted) for each in _items(saved["absorbed"])
        ]
    except (KeyError, TypeError, ValueError):
        return None
    return disruption


def _load_times(saved: Any, then: float, known_since: float, counted: float) -> Disruption:
    disruption = Disruption(
        _text(saved["domain"]),
        began=then - _age(saved["began"]),
        start=then - _age(saved["start"]),
        latest=max(then - _number(saved["latest"]), known_since),
        until=counted + _number(saved["left"]),
    )
    disruption.slack = max(_number(saved["start"]) - _number(saved["latest"]), 0.0)
    disruption.last = disruption.vague_last = then - _age(saved["last"])
    disruption.vague_until = known_since
    return disruption


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not isfinite(value):
        raise ValueError
    return float(value)


def _age(value: object) -> float:
    return max(_number(value), 0.0)


def _items(value: Any) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError
    return value
