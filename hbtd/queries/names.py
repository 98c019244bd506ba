"""Finds the components that a name stands for: an xname, a NID or a host name."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import islice

from hbtd.formats import xnames
from hbtd.formats.go_integers import parse_integer
from hbtd.tracker.tracker import Tracker

_CABINET = "x"
"""The letter with which the xname of a cabinet begins, and that of all that is in it."""

_SIZE_OF_EACH = 8
"""The bytes that a search takes for each tracked component."""

_PORTION = 1000
"""The most components or names that are looked at before others have their turn."""


async def resolve(
    tracker: Tracker,
    names: Collection[str],
    turn: Callable[[], Awaitable[None]],
    reserve: Callable[[int], None],
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the xnames that each of `names` stands for, and the names that stand for none.

    Each name is taken as the first of these kinds that fits:

    1. The xname of a tracked component, in any spelling.
    2. The xname of a cabinet, or of something in a cabinet, tracked or not.
    3. The host name that a component has sent, in upper or lower case, or the NID that a component
       has sent, as a number (`1234`) or as schedulers write it (`nid001234`).
    4. Any other valid xname, although no such component is tracked.

    Components choose the host names and NIDs that they send. A host name or NID that several
    components have sent stands for all of them, so that no component can take away the name of
    another.

    If any name is not of the first two kinds, all tracked components are searched; `turn` is
    awaited between portions of the search. Before the search, `reserve` is called with the number
    of bytes of memory that the search takes; `reserve` may raise an exception.
    """
    found: dict[str, list[str]] = {}
    wanted: dict[str, str | None] = {}
    for number, name in enumerate(names, start=1):
        xname = xnames.parse(name)
        # Nobody can call itself what looks like the place of another in a cabinet.
        if xname is not None and (xname in tracker or xname[0] == _CABINET):
            found[name] = [xname]
        else:
            wanted[name] = xname
        if number % _PORTION == 0:
            await turn()
    if wanted:
        reserve(_SIZE_OF_EACH * len(tracker))
        await _search(tracker, wanted, found, turn)
    unknown = []
    for number, (name, xname) in enumerate(wanted.items(), start=1):
        if name not in found:
            if xname is None:
                unknown.append(name)
            else:
                found[name] = [xname]
        if number % _PORTION == 0:
            await turn()
    return found, unknown


async def _search(
    tracker: Tracker,
    names: Iterable[str],
    found: dict[str, list[str]],
    turn: Callable[[], Awaitable[None]],
) -> None:
    """Find the components that have sent each of `names`, as their host name or as their NID.

    Add to `found`, for each name that was sent, the xnames of these components. `turn` is awaited
    between portions of the work.
    """
    by_hostname: dict[str, list[str]] = {}
    by_nid: dict[int, list[str]] = {}
    for number, name in enumerate(names, start=1):
        by_hostname[name.strip().lower()] = []
        if (nid := nid_of(name)) is not None:
            by_nid[nid] = []
        if number % _PORTION == 0:
            await turn()
    # A copy, since components come and go while others have their turns.
    tracked = iter(tracker.tracked())
    while portion := list(islice(tracked, _PORTION)):
        for xname in portion:
            component = tracker.component(xname)
            if component is None:
                continue
            hostname = component.hostname.lower()
            if hostname and hostname in by_hostname:
                by_hostname[hostname].append(xname)
            if by_nid and (number_sent := _number(component.nid)) in by_nid:
                by_nid[number_sent].append(xname)
        await turn()
    for number, name in enumerate(names, start=1):
        if number % _PORTION == 0:
            await turn()
        nid = nid_of(name)
        senders = by_hostname[name.strip().lower()] + ([] if nid is None else by_nid[nid])
        if senders:
            found[name] = list(dict.fromkeys(senders))


def nid_of(name: str) -> int | None:
    """Return the number in a NID: `1234`, `nid1234` or `nid001234`; `None` for any other name."""
    digits = name.strip().lower().removeprefix("nid")
    if digits.isdecimal() and digits.isascii() and len(digits) < 20:
        return int(digits)
    return None


def _number(nid: str) -> int | None:
    """Return the number in a NID that a component has sent; `None` if it is no integer.

    The integer may be spelled in any way that is valid in a heartbeat.
    """
    if nid.isdecimal() and nid.isascii() and len(nid) < 19 and nid[0] != "0":
        return int(nid)
    try:
        return parse_integer(nid, bits=64, signed=True)
    except ValueError:
        return None
