"""The running of checks, one after another, and the interface of reports of their outcomes.

A check is a function that returns a sentence about what it has found, or raises an exception. A
failed check does not keep the runner from running further checks.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from hbtd.ctl.failures import BROKEN, NO, YES, Failure


class Wrong(Exception):
    """Raised when a check has failed; the message says what is wrong."""


class Skipped(Exception):
    """Raised when a check has nothing to check, and is skipped; the message says why."""


class Result(NamedTuple):
    """The outcome of a check."""

    name: str
    status: int
    """The exit status of hbtd-smoke if this check is the first to fail; 0 if it has not failed."""
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
        """End the report; `gave_up` says why checks were not run, and is empty if all were run."""


class Checks:
    """The runner of checks: it reports outcomes, and keeps the exit status of the first failure."""

    def __init__(self, report: Report, clock: Callable[[], float]) -> None:
        """Make a runner that adds the outcomes of checks to `report`.

        `clock` returns the seconds of a monotonic clock, which measures the duration of each check.
        """
        self._report = report
        self._clock = clock
        self.status = YES
        """The exit status of hbtd-smoke: that of the first check that has failed, otherwise 0."""

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Run a check and report its outcome; return whether it has passed or was skipped.

        `check` returns a sentence about what it has found, or raises `Wrong`, `Skipped` or, if the
        server can't be reached or refuses the request, `hbtd.ctl.failures.Failure`.
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
