"""Which component a name stands for: an xname, a NID or a host name."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import islice
from math import inf

from hbtd.formats import xnames
from hbtd.formats.go_integers import parse_integer
from hbtd.tracker.components import Component
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

_CABINET = "x"
"""The letter with which the xname of a cabinet begins, and that of all that is in it."""

_PORTION = 1000
"""The most components or names that are looked at before others have their turn."""


async def resolve(
    tracker: Tracker, names: Collection[str], turn: Callable[[], Awaitable[None]]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Return which xname each of `names` stands for, the unknown and the ambiguous ones.

    A name is, in this order: the xname of a tracked component, in any spelling; any xname of what
    is in a cabinet; the host name that a component has sent, in upper or lower case; the NID that a
    component has sent, as a number (`1234`) or the way that schedulers write it (`nid001234`); or
    another valid xname, although no such component is tracked.

    Components choose what they send. So a host name or NID is ambiguous if several have sent it, or
    one as its host name and another as its NID. It stands for one of them nevertheless: for the
    one that lives, and among those for the one that was heard last.

    All components are looked at if any name is not the xname of a tracked one; `turn` is awaited
    between portions of that, so that others have their turn.
    """
    found: dict[str, str] = {}
    wanted: dict[str, str | None] = {}
    for number, name in enumerate(names, start=1):
        xname = xnames.parse(name)
        # Nobody can call itself what looks like the place of another in a cabinet.
        if xname is not None and (xname in tracker or xname[0] == _CABINET):
            found[name] = xname
        else:
            wanted[name] = xname
        if number % _PORTION == 0:
            await turn()
    ambiguous: list[str] = []
    if wanted:
        senders, ambiguous = await _search(tracker, wanted, turn)
        found.update(senders)
    unknown = []
    for number, (name, xname) in enumerate(wanted.items(), start=1):
        if name not in found:
            if xname is None:
                unknown.append(name)
            else:
                found[name] = xname
        if number % _PORTION == 0:
            await turn()
    return found, unknown, ambiguous


async def _search(
    tracker: Tracker, names: Iterable[str], turn: Callable[[], Awaitable[None]]
) -> tuple[dict[str, str], list[str]]:
    """Return the xnames of those of `names` that are host names or NIDs of tracked components.

    Also return the ambiguous ones of these names.
    """
    by_hostname: dict[str, str] = {}
    by_nid: dict[int, str] = {}
    for number, name in enumerate(names, start=1):
        by_hostname[name.strip().lower()] = ""
        if (nid := nid_of(name)) is not None:
            by_nid[nid] = ""
        if number % _PORTION == 0:
            await turn()
    ranks: dict[str | int, tuple[bool, float]] = {}
    shared: set[str | int] = set()
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
                and _better(tracker, xname, component, hostname, ranks, shared)
            ):
                by_hostname[hostname] = xname
            if by_nid:
                nid = _number(component.nid)
                if nid in by_nid and _better(tracker, xname, component, nid, ranks, shared):
                    by_nid[nid] = xname
        await turn()
    found: dict[str, str] = {}
    ambiguous: list[str] = []
    for number, name in enumerate(names, start=1):
        if number % _PORTION == 0:
            await turn()
        hostname, nid = name.strip().lower(), nid_of(name)
        senders = by_hostname[hostname], "" if nid is None else by_nid[nid]
        if not any(senders):
            continue
        found[name] = senders[0] or senders[1]
        if hostname in shared or nid in shared or (all(senders) and senders[0] != senders[1]):
            ambiguous.append(name)
    return found, ambiguous


def _better(
    tracker: Tracker,
    xname: str,
    component: Component,
    name: str | int,
    ranks: dict[str | int, tuple[bool, float]],
    shared: set[str | int],
) -> bool:
    """Note a component that has sent a name; return whether it goes before those noted earlier.

    Add the name to those that are `shared` if another one has sent it, too.
    """
    if name in ranks:
        shared.add(name)
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
