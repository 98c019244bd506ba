"""hbtd's tests, for trial."""

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("hbtd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hbtd")
# trial empties its own directory, and each worker has another one: keep failures, and tables that
# take seconds to make, from run to run.
set_hypothesis_home_dir(Path(__file__).parent.parent / ".hypothesis")
