"""Tests are run by trial within this process, and a listener is told of each."""

import resource
import sys
import time
import unittest
from collections.abc import Container, Iterator
from io import StringIO
from itertools import groupby
from typing import Any

# Before `tests` is imported from a copy; they are all that takes time to import.
import hypothesis
import kafka  # noqa: F401
import treq.testing  # noqa: F401
import twisted.internet.testing
import twisted.web.client  # noqa: F401
import werkzeug.routing  # noqa: F401
from twisted.trial.reporter import TestResult
from twisted.trial.runner import TestLoader, TestSuite, TrialRunner


class Listener:
    """Is told of tests."""

    def started(self, name: str) -> None:
        """Note that a test begins."""

    def ended(self, name: str, outcome: str, spent: float) -> None:
        """Note that a test has `passed`, `failed` or was `skipped`; `spent` is its CPU time."""


class _Result(TestResult):
    """Tell a listener of tests; stop after the first that fails, if wanted."""

    def __init__(self, listener: Listener, first_only: bool) -> None:
        super().__init__()
        self._listener = listener
        self._first_only = first_only
        self._started = 0.0
        self._passed = False
        self._wrong = 0

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._passed = False
        self._listener.started(test.id())
        self._started = _spent()

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._passed = True

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        wrong = len(self.errors) + len(self.failures)
        outcome = "failed" if wrong > self._wrong else "passed" if self._passed else "skipped"
        self._wrong = wrong
        self._listener.ended(test.id(), outcome, _spent() - self._started)
        self.shouldStop = self._first_only and wrong > 0

    def done(self) -> None:
        """Print nothing; trial asks for it."""


def _flat(suite: Any) -> Iterator[Any]:
    """Yield the tests of a suite, and of suites in it."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from _flat(each)
        else:
            yield each


def _spent() -> float:
    """Return the seconds of the processor that this process and those it started have used."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def run(
    names: list[str],
    listener: Listener,
    first_only: bool = False,
    without: Container[str] = (),
) -> None:
    """Run tests by name, each once; Hypothesis tries the same examples each time.

    With `first_only`, the first that fails is the last. Those named in `without` are left out.
    """
    hypothesis.settings.register_profile(
        "mutants",
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    import tests  # noqa: F401  # which loads a profile of its own

    hypothesis.settings.load_profile("mutants")
    runner = TrialRunner(lambda *_: _Result(listener, first_only), stream=StringIO())
    # A module is imported only when its turn has come.
    for _, some in groupby(names, lambda name: name.rpartition(".")[0].rpartition(".")[0]):
        loaded = _flat(TestLoader().loadByNames(list(some)))
        result = runner.run(TestSuite(test for test in loaded if test.id() not in without))
        if first_only and not result.wasSuccessful():
            break


def start_afresh(checkout: str) -> None:
    """Have this process import hbtd and its tests anew, from a copy of the checkout."""
    for name in [each for each in sys.modules if each.partition(".")[0] in ("hbtd", "tests")]:
        del sys.modules[name]
    sys.path[:] = [checkout, *(each for each in sys.path if each not in ("", checkout))]
