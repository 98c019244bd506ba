"""Runs checks one after another, also after one that has failed, and reports their outcomes.

A check is a function that returns a sentence about what it has found.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from hbtd.ctl.failures import BROKEN, NO, YES, Failure


class Wrong(Exception):
    """A check has failed; the message says what is wrong."""


class Skipped(Exception):
    """A check is skipped because it has nothing to check; the message says why."""


class Result(NamedTuple):
    """The outcome of a check."""

    name: str
    status: int
    """The exit status for a check that failed, otherwise 0."""
    text: str
    """What the check has found, why it failed, or why it was skipped."""
    seconds: float
    skipped: bool = False

    @property
    def ok(self) -> bool:
        """Whether the check has passed or was skipped."""
        return self.status == YES


class Report(Protocol):
    """The interface of a report, which writes the outcomes of checks."""

    def add(self, result: Result) -> None:
        """Add the outcome of one check to the report."""

    def end(self, gave_up: str) -> None:
        """End the report; `gave_up` is why not all checks were run, or '' if they were."""


class Checks:
    """Runs checks, reports their outcomes, and keeps the exit status of the first failure."""

    def __init__(self, report: Report, clock: Callable[[], float]) -> None:
        """Begin without failures; `clock` returns seconds, by which each check is timed."""
        self._report = report
        self._clock = clock
        self.status = YES
        """The exit status: that of the first check that has failed."""

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Run a check and report its outcome; return whether it has passed or was skipped.

        `check` returns what it has found, or raises `Wrong`, `Skipped` or `Failure`.
        """
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
