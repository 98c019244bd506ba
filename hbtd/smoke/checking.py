"""One check after another: each passes, fails or is skipped, and none keeps the next from running.

A check is a function that returns a sentence about what it has found.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from hbtd.ctl.failures import BROKEN, NO, YES, Failure


class Wrong(Exception):
    """Something is not as it should be; the message says what."""


class Skipped(Exception):
    """There is nothing to check; the message says why."""


class Result(NamedTuple):
    """The outcome of a check."""

    name: str
    status: int
    """0, or the exit status that the failure stands for."""
    text: str
    """What was found, why it failed, or why it was skipped."""
    seconds: float
    skipped: bool = False

    @property
    def ok(self) -> bool:
        """Whether it has not failed."""
        return self.status == YES


class Report(Protocol):
    """Says what the checks have found."""

    def add(self, result: Result) -> None:
        """Take the outcome of a check."""

    def end(self, gave_up: str) -> None:
        """Say that there are no more; `gave_up`, unless it is empty, is why they end early."""


class Checks:
    """Runs checks, and remembers the first failure."""

    def __init__(self, report: Report, clock: Callable[[], float]) -> None:
        """Make it; `clock` returns seconds, for durations."""
        self._report = report
        self._clock = clock
        self.status = YES
        """The exit status: that of the first check that has failed."""

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Run a check, report it, and return whether it has not failed."""
        begun = self._clock()
        status, skipped = YES, False
        try:
            text = check()
        except Skipped as reason:
            text, skipped = str(reason), True
        except Wrong as reason:
            text, status = str(reason), NO
        except Failure as failure:
            text, status = str(failure), failure.status
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text, status = f"the answer is not one of this release of hbtd: {error!r}", BROKEN
        result = Result(name, status, text, self._clock() - begun, skipped)
        self._report.add(result)
        self.status = self.status or status
        return result.ok
