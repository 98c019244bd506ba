"""The tests of the API once more, with `--fast_lane=no`: nothing is taken from Klein then."""

from collections.abc import Iterator
from importlib import import_module

from twisted.trial.unittest import TestCase

from tests.http_memory import APITestCase
from tests.test_api_access import AccessTestCase

MODULES = [
    import_module(f"tests.{name}")
    for name in (
        "test_api_access",
        "test_api_access_detours",
        "test_api_access_order",
        "test_api_fairness",
        "test_api_health",
        "test_api_heartbeats",
        "test_api_http",
        "test_api_limits",
        "test_api_params",
        "test_api_states",
        "test_api_timeouts",
        "test_fuzz",
    )
]


def _cases() -> Iterator[type[TestCase]]:
    """Make a test case for each one that is about a service in memory."""
    for module in MODULES:
        for case in list(vars(module).values()):
            if (
                isinstance(case, type)
                and issubclass(case, APITestCase | AccessTestCase)
                and case.__module__ == module.__name__
            ):
                name = f"{case.__name__}Of{module.__name__.rpartition('_')[2].title()}"
                yield type(name, (case,), {"fast_lane": False, "__module__": __name__})


# Trial finds tests, and finds them again in its workers, by their names in this module.
globals().update({case.__name__: case for case in _cases()})
