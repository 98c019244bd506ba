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
"""The most entries of a list that one request asks for."""

_STATES = {"ok": "healthy", "alive": "healthy,warned", "silent": "warned,dead"}


class API(Protocol):
    """The interface by which commands use hbtd; `hbtd.ctl.client.Client` implements it."""

    def get(self, path: str, query: Query | None = None) -> Any:
        """Return the answer to a GET, decoded from JSON."""

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        expected: tuple[int, ...] = (),
    ) -> Answer:
        """Return the answer to a request, if its status is 2xx or in `expected`."""

    def stream(self, path: str, query: Query, last_id: str, silence: float) -> Iterator[bytes]:
        """Yield the bytes of an endless answer as they arrive; see `Client.stream`."""

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
        """Whether to print JSON."""
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
        """Yield the pages of a list, until its end, or until `most` entries were requested.

        If `most` is 0, all entries are requested.
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

        Long lists of names take several requests. `most` is the most components to return, 0 for
        all. The keys of the result are `Components`, `Next` and `Unknown`.
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
    """Return the states that a user has given, translated to the words of hbtd's API.

    `text` and the result have states separated by commas. Users may also write `ok`, `alive` and
    `silent`, and the word `also`, which is not translated. Raise `Misused` for any other word.
    Return `None` if `text` is empty or `None`.
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
