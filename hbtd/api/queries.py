"""Common parts of query handlers: parameters, names of components, and answers in ASCII."""

import json
from collections.abc import Collection, Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple
from urllib.parse import parse_qsl

import orjson
from twisted.web.server import Request

from hbtd.formats import xnames
from hbtd.formats.nodesets import NodesetError, expand, fold, portions
from hbtd.formats.times import parse_time
from hbtd.queries.machine import Turn, sort_names
from hbtd.queries.names import resolve
from hbtd.server.problems import Problem
from hbtd.server.replies import JSON, Reply
from hbtd.server.site import LimitedRequest
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

MOST_NAMES = 100_000
"""The maximum number of names in one query; more names would keep hbtd busy for too long."""

ROW_SIZE = 1024
"""The approximate memory, in bytes, that a row of an answer takes while the answer is made."""

MOST_ROWS = 1000
"""The maximum number of rows on a page, and the default of the query parameter `limit`."""

_PORTION = 2000
_NAME_SIZE = 350
"""The bytes that a name in a query takes while it is looked up, measured."""

_CHARACTERS_AT_ONCE = 16_384
"""The most characters of nodesets that are read before others have their turns."""

_STATES = {
    "ok": Phase.HEALTHY,
    **{phase.value: phase for phase in Phase if phase is not Phase.UNKNOWN},
}
_WHOLE_MACHINE = ("s0", "all")


class Named(NamedTuple):
    """The components that the names in a query stand for."""

    found: dict[str, list[str]]
    """The xnames that each name stands for; some of these components may be untracked."""
    unknown: list[str]
    """The names that stand for no component."""

    def xnames(self) -> list[str]:
        """Return the xnames that the names stand for, without duplicates."""
        return list(dict.fromkeys(chain.from_iterable(self.found.values())))

    def certain(self) -> list[str]:
        """Return, without duplicates, the xnames for names that stand for exactly one component."""
        return list(dict.fromkeys(x[0] for x in self.found.values() if len(x) == 1))

    def ambiguous(self) -> list[str]:
        """Return the host names and NIDs in the query that several components have sent."""
        return [name for name, xnames in self.found.items() if len(xnames) > 1]


def read_parameters(request: Request, known: Collection[str]) -> dict[str, str]:
    """Return the parameters in the query of a request's URL, by name.

    Raise `Problem` 400 if one of them is not in `known`, is given twice, or can't be decoded.
    """
    query = request.uri.partition(b"?")[2]
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            encoding="utf-8",
            errors="strict",
        )
    except ValueError:
        raise Problem(
            400, "The query of the URL is not NAME=VALUE, joined by '&', in UTF-8"
        ) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise bad(name, f"is not known; known are: {allowed}")
        if name in found:
            raise bad(name, "is given twice")
        found[name] = value
    return found


def bad(parameter: str, why: str) -> Problem:
    """Return the `Problem` 400 for a query parameter, such as "Parameter limit is no number".

    `why` is the part of the message after the name of the parameter.
    """
    return Problem(400, f"Parameter {printable(parameter)} {why}")


def printable(text: str, most: int = 60) -> str:
    """Return the first `most` characters of `text` in printable ASCII, for an error message.

    All other characters are escaped. If `text` is longer, the result ends with `...`.
    """
    cut = text[:most] + "..." * (len(text) > most)
    return cut.encode("unicode_escape").decode("ascii")


def read_limit(parameters: Mapping[str, str]) -> int:
    """Return the parameter `limit`: the maximum number of rows on a page, by default `MOST_ROWS`.

    Raise `Problem` 400 if the parameter is not an integer from 1 to `MOST_ROWS`.
    """
    text = parameters.get("limit", str(MOST_ROWS))
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MOST_ROWS):
        raise bad("limit", f"is no number from 1 to {MOST_ROWS}")
    return int(text)


def read_states(parameters: Mapping[str, str]) -> frozenset[Phase] | None:
    """Return the states that the parameter `state` lists; `None` if the parameter is not given.

    The parameter consists of words separated by commas. Raise `Problem` 400 if a word is unknown.
    """
    if "state" not in parameters:
        return None
    words = [word.strip().lower() for word in parameters["state"].split(",")]
    for word in words:
        if word not in _STATES:
            raise bad("state", f"has '{printable(word)}'; known are {', '.join(_STATES)}")
    return frozenset(_STATES[word] for word in words)


def read_under(parameters: Mapping[str, str]) -> str:
    """Return the parameter `under`: the xname of the part of the machine that is queried.

    Return an empty text for the whole machine: if there is no such parameter, or if it is `s0` or
    `all`. Raise `Problem` 400 if the parameter is not an xname.
    """
    text = parameters.get("under")
    if text is None:
        return ""
    xname = xnames.parse(text)
    if xname is None:
        raise bad("under", "is no xname of a cabinet, a chassis, a slot or another component")
    return "" if xname in _WHOLE_MACHINE else xname


def read_time(parameters: Mapping[str, str], name: str, now: float) -> float | None:
    """Return the Unix time, in seconds, that a parameter gives; `None` if it is not given.

    `now` is the current Unix time. Raise `Problem` 400 if the parameter is no time.
    """
    text = parameters.get(name)
    if text is None:
        return None
    try:
        return parse_time(text, now)
    except (ValueError, OverflowError):
        raise bad(
            name,
            "is no time: use 2026-03-04T05:06:07Z, Unix seconds, or -15m for a time ago;"
            " a + has to be written %2B",
        ) from None


async def read_names(
    nodesets: Collection[str], tracker: Tracker, request: LimitedRequest, what: str
) -> Named:
    """Return the components that the xnames, NIDs and host names in `nodesets` stand for.

    Raise `Problem` 400 if a text is not a nodeset, or if there are more than `MOST_NAMES` names;
    `what` names the nodesets in the message. Raise `Problem` 503 if there is not enough memory for
    the names.
    """
    left, read = MOST_NAMES, 0
    expanded: dict[str, None] = {}
    for text in nodesets:
        read += len(text) + 80
        if read > _CHARACTERS_AT_ONCE:
            read = 0
            await request.turn()
        try:
            names = expand(text, left)
        except NodesetError as error:
            raise Problem(400, f"{what}: {error}") from None
        left_before = left
        for portion in portions(names, _PORTION):
            # A text of 20 characters may stand for 100,000 names.
            hold(request, _NAME_SIZE * len(portion))
            expanded.update(dict.fromkeys(portion))
            left -= len(portion)
            if left < left_before - _PORTION:
                await request.turn()
    return Named(*await resolve(tracker, expanded, request.turn, partial(hold, request)))


def hold(request: LimitedRequest, count: int) -> None:
    """Reserve `count` bytes for an answer that is being made; raise `Problem` 503 if that fails.

    The bytes are reserved until the request has ended. They are part of the memory for large
    request bodies, of which the requests from one address get at most half of what the requests
    from other addresses leave free. So no client can make hbtd prepare thousands of answers at the
    same time.
    """
    if not request.hold(count):
        raise request.no_room()


async def fold_many(names: Collection[str], turn: Turn) -> str:
    """Return names as one nodeset; `turn` is awaited between portions of the work."""
    ordered = iter(await sort_names(names, turn))
    folded: list[str] = []
    for portion in portions(ordered, _PORTION):
        if folded:
            await turn()
        folded.append(fold(portion))
    return ",".join(folded)


def encode(value: object) -> bytes:
    """Return a value as JSON in printable ASCII; all other characters are escaped.

    Texts that nodes have sent may contain control characters, which would have an effect on the
    terminal on which somebody reads the JSON.
    """
    encoded = orjson.dumps(value)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def ascii_reply(value: object) -> Reply:
    """Return a reply with a JSON document in ASCII characters."""
    return Reply(200, encode(value), JSON)


def rows_reply(name: str, pages: Collection[bytes], after: Mapping[str, object]) -> Reply:
    """Return a reply with a JSON object: the rows under the key `name`, then the fields of `after`.

    `pages` are encoded JSON lists of rows, which are joined into one list.
    """
    rows = b",".join(page[1:-1] for page in pages if page != b"[]")
    return Reply(200, b'{"%b":[%b],%b' % (name.encode(), rows, encode(after)[1:]), JSON)
