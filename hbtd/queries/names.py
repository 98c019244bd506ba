"""Which component a name stands for: an xname, a NID or a host name."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import islice
from math import inf

from hbtd.formats import xnames
from hbtd.formats.go_integers import parse_integer
from hbtd.tracker.components import Component
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

_PORTION = 1000
"""The most components or names that are looked at before others have their turn."""


async def resolve(
    tracker: Tracker, names: Collection[str], turn: Callable[[], Awaitable[None]]
) -> tuple[dict[str, str], list[str]]:
    """Return which xname each of `names` stands for, and the names that stand for nothing.

    A name is, in this order: the xname of a tracked component, in any spelling; the host name that
    a component has sent, in upper or lower case; the NID that a component has sent, as a number
    (`1234`) or the way that schedulers write it (`nid001234`); or a valid xname, although no such
    component is tracked. If several components have sent the same host name or NID, it stands for
    the one that lives, and among those for the one that was heard last.

    All components are looked at if any name is not the xname of a tracked one; `turn` is awaited
    between portions of that, so that others have their turn.
    """
    found: dict[str, str] = {}
    wanted: dict[str, str | None] = {}
    for number, name in enumerate(names, start=1):
        xname = xnames.parse(name)
        if xname is not None and xname in tracker:
            found[name] = xname
        else:
            wanted[name] = xname
        if number % _PORTION == 0:
            await turn()
    if wanted:
        await _search(tracker, wanted, found, turn)
    unknown = []
    for number, (name, xname) in enumerate(wanted.items(), start=1):
        if name not in found:
            if xname is None:
                unknown.append(name)
            else:
                found[name] = xname
        if number % _PORTION == 0:
            await turn()
    return found, unknown


async def _search(
    tracker: Tracker,
    names: Iterable[str],
    found: dict[str, str],
    turn: Callable[[], Awaitable[None]],
) -> None:
    """Add to `found` the xnames of those of `names` that tracked components have as host or NID."""
    by_hostname: dict[str, str] = {}
    by_nid: dict[int, str] = {}
    for number, name in enumerate(names, start=1):
        by_hostname[name.strip().lower()] = ""
        if (nid := nid_of(name)) is not None:
            by_nid[nid] = ""
        if number % _PORTION == 0:
            await turn()
    ranks: dict[str | int, tuple[bool, float]] = {}
    # A copy, since components come and go while others have their turns.
    tracked = iter(tracker.tracked())
    while portion := list(islice(tracked, _PORTION)):
        for xname in portion:
            component = tracker.component(xname)
            if component is None:
                continue
            hostname = component.hostname.lower()
            if (
                hostname
                and hostname in by_hostname
                and _better(tracker, xname, component, hostname, ranks)
            ):
                by_hostname[hostname] = xname
            if by_nid:
                nid = _number(component.nid)
                if nid in by_nid and _better(tracker, xname, component, nid, ranks):
                    by_nid[nid] = xname
        await turn()
    for number, name in enumerate(names, start=1):
        if number % _PORTION == 0:
            await turn()
        nid = nid_of(name)
        xname = by_hostname[name.strip().lower()] or ("" if nid is None else by_nid[nid])
        if xname:
            found[name] = xname


def _better(
    tracker: Tracker,
    xname: str,
    component: Component,
    name: str | int,
    ranks: dict[str | int, tuple[bool, float]],
) -> bool:
    """Note a component that has sent a name; return whether it goes before those noted earlier."""
    rank = tracker.phase(xname) is not Phase.DEAD, component.last_heard
    if rank <= ranks.get(name, (False, -inf)) and name in ranks:
        return False
    ranks[name] = rank
    return True


def nid_of(name: str) -> int | None:
    """Return the NID that a name stands for: `1234`, `nid1234` or `nid001234`; else `None`."""
    digits = name.strip().lower().removeprefix("nid")
    if digits.isdecimal() and digits.isascii() and len(digits) < 20:
        return int(digits)
    return None


def _number(nid: str) -> int | None:
    """Return a NID that was sent, which may have any spelling of an integer, as a number."""
    if nid.isdecimal() and nid.isascii() and len(nid) < 19 and nid[0] != "0":
        return int(nid)
    try:
        return parse_integer(nid, bits=64, signed=True)
    except ValueError:
        return None
