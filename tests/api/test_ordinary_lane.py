"""The tests of the API once more, with `--fast_lane=no`: Klein answers every request."""

from collections.abc import Iterator
from importlib import import_module

from twisted.trial.unittest import TestCase

from tests.support.access_memory import AccessTestCase
from tests.support.http_memory import APITestCase

MODULES = [
    import_module(f"tests.{name}")
    for name in (
        "api.test_access",
        "api.test_access_detours",
        "api.test_access_order",
        "api.test_health",
        "api.test_heartbeats",
        "api.test_http",
        "api.test_params",
        "api.test_states",
        "api.test_strictness",
        "fuzz.test_fuzz",
        "server.test_limits",
        "server.test_scheduler",
        "server.test_timeouts",
    )
]


def _cases() -> Iterator[type[TestCase]]:
    """Derive a test case, without the fast lane, from each one with a service in memory."""
    for module in MODULES:
        for case in list(vars(module).values()):
            if (
                isinstance(case, type)
                and issubclass(case, APITestCase | AccessTestCase)
                and case.__module__ == module.__name__
            ):
                name = f"{case.__name__}Of{module.__name__.rpartition('_')[2].title()}"
                yield type(name, (case,), {"fast_lane": False, "__module__": __name__})


# Trial, and its workers again, find test cases by their names in the module.
globals().update({case.__name__: case for case in _cases()})
