"""What truly happened in a world, line by line, and a hash of all of it."""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256

_USUAL = {"heard", "told", "log", "topic", "times"}
"""Kinds of things that happen in every world, whatever goes wrong."""


class Truth:
    """The log of a world. It knows nothing of what hbtd knows."""

    def __init__(self, now: Callable[[], float], keep: bool = True) -> None:
        """Make an empty log; `now` returns the time. Without `keep` only the hash is kept."""
        self._now = now
        self._keep = keep
        self._hash = sha256()
        self.lines: list[str] = []
        self.hidden = ""
        """A text that is not the same in each run, such as the name of a temporary folder."""
        self.counts: Counter[str] = Counter()
        """How often each kind of thing has happened."""
        self.state: Callable[[], str] = lambda: ""
        """Returns in a few words what state the world is in."""
        self.met: Counter[tuple[str, str]] = Counter()
        """How often each kind of thing has happened in each state, but for what happens anyway."""

    def note(self, kind: str, text: str = "", *, story: bool = True) -> None:
        """Note something; `story` says whether it belongs to the story that people read."""
        if self.hidden:
            text = text.replace(self.hidden, "")
        line = f"{self._now():12.6f}  {kind:<8}  {text}"
        self.counts[kind] += 1
        if kind not in _USUAL:
            # Of hbtd's hosts, what happens to one of them is a kind of its own.
            what = f"hbtd {text.partition(' ')[2]}" if kind == "hbtd" else kind
            self.met[what, self.state()] += 1
        self._hash.update(line.encode())
        if story and self._keep:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """A hash of all that has happened."""
        return self._hash.hexdigest()[:16]
