"""The tests of the API once more, with `--fast_lane=no`: nothing is taken from Klein then."""

from collections.abc import Iterator
from importlib import import_module

from twisted.trial.unittest import TestCase

from tests.api.test_access import AccessTestCase
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
        "fuzz.test_fuzz",
        "server.test_limits",
        "server.test_scheduler",
        "server.test_timeouts",
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
