"""Reads nodesets of up to a million names, nearly all of which are xnames."""

from collections.abc import Collection
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

from hbtd.api.queries import MOST_NAMES, hold
from hbtd.formats import xnames
from hbtd.formats.nodesets import NodesetError, expand, portions
from hbtd.queries.names import resolve
from hbtd.server.problems import Problem
from hbtd.server.site import LimitedRequest
from hbtd.tracker.tracker import Tracker

_PORTION: Final = 2000
_CHARACTERS_AT_ONCE: Final = 16_384
"""The most characters of nodesets that are read before others have their turns."""

_XNAME_SIZE: Final = 110
"""The bytes that an xname takes, measured."""
_NAME_SIZE: Final = 350
"""The bytes that any other name takes while it is looked up, measured."""


class ManyNames(NamedTuple):
    """The components that the names in a request stand for."""

    xnames: Collection[str]
    """The xnames of the components, without duplicates; some may be untracked."""
    untracked: Collection[str]
    """Those of them that are not tracked."""
    unknown: Collection[str]
    """The names that stand for no component."""
    ambiguous: Collection[str]
    """The host names and NIDs that several components have sent."""


async def read_many_names(
    nodesets: Collection[str], tracker: Tracker, request: LimitedRequest, what: str, most: int
) -> ManyNames:
    """Return the components that the names in `nodesets` stand for, as `read_names` does.

    Up to `most` may be xnames of what is in a cabinet, but only 100,000 other names. Raise
    `Problem` 400 if a text is not a nodeset, or if there are more names; `what` names the nodesets
    in the message. Raise `Problem` 503 if there is not enough memory for the names.
    """
    found: dict[str, None] = {}
    untracked: dict[str, None] = {}
    others: dict[str, None] = {}
    left, read = most, 0
    for text in nodesets:
        read += len(text) + 80
        if read > _CHARACTERS_AT_ONCE:
            read = 0
            await request.turn()
        try:
            names = expand(text, left)
        except NodesetError as error:
            raise Problem(400, f"{what}: {error}") from None
        for number, portion in enumerate(portions(names, _PORTION)):
            if number:
                await request.turn()
            left -= len(portion)
            hold(request, _XNAME_SIZE * len(portion))
            for name in portion:
                xname = xnames.parse(name)
                if xname is None or not (xname in tracker or xname[0] == "x"):
                    others[name] = None
                    continue
                found[xname] = None
                if xname not in tracker:
                    untracked[xname] = None
            if len(others) > MOST_NAMES:
                raise Problem(
                    400, f"{what}: more than {MOST_NAMES:,} names that are no xnames are too many"
                )
    if not others:
        return ManyNames(found, untracked, (), ())
    hold(request, _NAME_SIZE * len(others))
    named, unknown = await resolve(tracker, others, request.turn, partial(hold, request))
    ambiguous = [name for name, senders in named.items() if len(senders) > 1]
    for xname in chain.from_iterable(each for each in named.values() if len(each) == 1):
        found[xname] = None
        if xname not in tracker:
            untracked[xname] = None
    return ManyNames(found, untracked, unknown, ambiguous)
