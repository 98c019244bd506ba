"""The objects that a command of hbtctl uses when it runs: the API, the terminal, the options."""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from hbtd.ctl.client import Answer, Query
from hbtd.ctl.escaping import shown
from hbtd.ctl.failures import Misused
from hbtd.ctl.names import joined, portions
from hbtd.ctl.terminal import Terminal
from hbtd.formats.nodesets import natural_key

PAGE = 1000
"""The maximum number of list entries that hbtctl asks for in one request."""

_STATES = {"ok": "healthy", "alive": "healthy,warned", "silent": "warned,dead"}


class API(Protocol):
    """The interface by which commands use hbtd; `hbtd.ctl.client.Client` implements it."""

    def get(self, path: str, query: Query | None = None) -> Any:
        """Return the answer to a GET, decoded from JSON; raise `Failure` if the request fails."""

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        expected: tuple[int, ...] = (),
    ) -> Answer:
        """Make a request, and return the answer.

        Raise `Failure` if the request fails, or if the status of the answer is neither 2xx nor in
        `expected`.
        """

    def stream(self, path: str, query: Query, last_id: str, silence: float) -> Iterator[bytes]:
        """Make a GET request whose answer does not end; yield the answer's bytes as they arrive.

        Send `last_id` as `Last-Event-ID`, unless it is empty. Raise `Failure` if the request fails,
        or if no byte arrives for `silence` seconds.
        """

    def close(self) -> None:
        """Close the connection, if there is one."""


@dataclass
class Invocation:
    """The objects that one run of hbtctl uses: the API, the terminal, the options, and clocks."""

    api: API
    terminal: Terminal
    options: Namespace
    clock: Callable[[], float] = time.monotonic
    """A function that returns the seconds of a monotonic clock, to measure durations."""
    sleep: Callable[[float], None] = time.sleep

    @property
    def json(self) -> bool:
        """Whether to print JSON instead of text for people (`--output json`)."""
        return bool(self.options.output == "json")

    def names(self) -> str:
        """Return the names on the command line as one nodeset, which is empty if there are none.

        Raise `Misused` if there are names, but they stand for no component, such as the name of an
        empty ClusterShell group: the empty nodeset would mean all components.
        """
        words = self.options.names
        names = joined(words, self.terminal.stdin)
        if words and not names:
            text = shown(" ".join(words) or "''", 60)
            raise Misused(f"no names: {text} stands for no component")
        return names

    def pages(self, path: str, query: Query, most: int = 0) -> Iterator[dict[str, Any]]:
        """Request a list from hbtd, and yield the pages of the list in order.

        Request `most` entries in all, or every entry of the list if `most` is 0.
        """
        after, left = query.get("after"), most
        while True:
            limit = min(left, PAGE) if most else PAGE
            page = self.api.get(path, {**query, "limit": limit, "after": after})
            yield page
            left -= limit
            after = page.get("Next")
            if not after or (most and left <= 0):
                return

    def components(self, names: str, query: Query, most: int = 0) -> dict[str, Any]:
        """Return the answer of `GET /components` about `names`, with all pages joined.

        Long lists of names take several requests. At most `most` components are returned, or all if
        `most` is 0. The result has three keys: `Components` has the components, `Unknown` the names
        that hbtd does not know, and `Next` the name after which to continue, or `None`.
        """
        found: list[dict[str, Any]] = []
        unknown: list[str] = []
        following: str | None = None
        parts = list(portions(names))
        for part in parts:
            rest = most - len(found) if most else 0
            for i, page in enumerate(self.pages("/components", {**query, "names": part}, rest)):
                found += page["Components"]
                following = page.get("Next")
                if not i:
                    unknown += [page["Unknown"]] if page.get("Unknown") else []
                if following:
                    self.terminal.progress(f"{len(found)} components")
            if most and len(found) >= most:
                break
        self.terminal.clear_progress()
        if len(parts) > 1:
            found = list({each["XName"]: each for each in found}.values())
            found.sort(key=lambda each: natural_key(each["XName"]))
        return {"Components": found, "Next": following, "Unknown": ",".join(unknown)}


def server_states(text: str | None, also: str = "") -> str | None:
    """Translate the states that a user has given into the words of hbtd's API; return the result.

    `text` and the result are words separated by commas. `ok`, `alive` and `silent` are translated.
    The states `healthy`, `warned` and `dead` stay as they are, and so does the word given as the
    argument `also`, if any. Raise `Misused` for any other word. Return `None` if `text` is empty or
    `None`.
    """
    if not text:
        return None
    parts = [_STATES.get(part.strip().lower(), part.strip().lower()) for part in text.split(",")]
    states = list(dict.fromkeys(",".join(parts).split(",")))
    words = ["healthy", "warned", "dead", *filter(None, [also])]
    wrong = [state for state in states if state not in words]
    if wrong:
        rest = f"silent or {also}" if also else "or silent"
        raise Misused(
            f"--state has {wrong[0]!r}: give ok, warned, dead, alive{', ' if also else ' '}{rest}"
        )
    return ",".join(states)
