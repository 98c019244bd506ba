"""Worlds from a fixed set of seeds, which hbtd has to pass; `make test-simulation` runs them."""

import os
import subprocess
import sys

from kafka.errors import MessageSizeTooLargeError
from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.runs import run_worlds
from tests.simulation.single import SingleWorld
from tests.support.processes import CHECKOUT

FOUND_WITH_KAFKA = (1, 9, 17, 55)
"""Seeds whose Kafka has found a fault."""

FOUND_WITH_KAFKA_AND_REPLICAS = (101, 303, 309, 324, 500)
"""The same for worlds of replicas."""

FOUND = (2, 123, 244, 559, 1071, 10182)
"""Seeds that have found a fault, of hbtd or of the oracle, before the worlds had a Kafka."""

FOUND_WITH_REPLICAS = (18, 103, 115, 920026)
"""The same for worlds of replicas."""


# fmt: off
FOUND_IN_TABLES = (
    31, 1244, 1273, 10063, 60039, 100259, 100266,
    600090, 601220, 601250, 660044, 800106, 800205, 900153, 900262, 908265,
    913141,
)
# fmt: on
"""The same for small worlds in which others write HSM's table: hbtd, and the oracle."""

FOUND_WITH_GUARD = (3, 42, 47, 54)
"""The same for small worlds whose failure domains fall silent: hbtd, and in 47 the oracle."""

HANDING_OVER = (3, 5, 12)
"""Seeds of small worlds whose replicas lead in turn."""

BESIDE_AN_ORIGINAL = (1, 500012, 740016)
"""Seeds of worlds of replicas beside an original."""


class LastRefused(SingleWorld):
    """A world whose last message, about a death, Kafka refuses for ever."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, with_faults=False)

    def start_servers(self) -> None:
        super().start_servers()
        assert self.telemetry is not None
        died = self.seconds - 2 * self.errtime
        self.clock.at(died, lambda: self._crash_node(self.nodes[0], power=True))
        broker = self.telemetry.broker
        broker.poisons_all = True
        self.clock.at(
            died + self.errtime - 1, lambda: setattr(broker, "poison", MessageSizeTooLargeError)
        )


def tell_last_refused() -> None:
    """Run the world whose last message is refused; print what is wrong, and its story."""
    (outcome,) = run_worlds([1], LastRefused, 1, story=True)
    print(outcome.wrong, *outcome.story, sep="\n")


def simulate(*arguments: str) -> tuple[int, str]:
    """Run worlds in a process of their own; return its status and what it has printed."""
    return run("-m", "tests.simulation", *arguments)


def run(*arguments: str) -> tuple[int, str]:
    """Run Python with arguments; return its status and what it has printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


class WorldTests(SynchronousTestCase):
    """Worlds from seeds."""

    def test_promises(self):
        """In worlds with all faults nobody who beats is told dead, and every death is told."""
        status, said = simulate("--first=1", "--seeds=6")
        self.assertEqual(status, 0, said)
        self.assertIn("6 worlds, 0 wrong", said)

    def test_hazards(self):
        """Nor do changed parameters, torn connections, and hosts that vanish change that."""
        status, said = simulate("--first=20013", "--seeds=4")
        self.assertEqual(status, 0, said[-3000:])
        self.assertRegex(said, r"[0-9] params\b")

    def test_table(self):
        """Nor do others that write HSM's table, which is right again in the end."""
        status, said = simulate("--table", "--first=1", "--seeds=20")
        self.assertEqual(status, 0, said[-3000:])
        self.assertRegex(said, r"[0-9] others\b")

    def test_handover(self):
        """Nor do leaders that are cut off, stopped or killed while they owe something."""
        status, said = simulate("--handover", "--seed", *map(str, HANDING_OVER))
        self.assertEqual(status, 0, said[-3000:])

    def test_guarded(self):
        """Nor do domains that fall silent, which are told as one thing, at one hbtd or replicas."""
        for options in (("--guarded", "--seeds=8"), ("--guarded-replicas", "--seeds=2")):
            status, said = simulate(*options, "--first=1")
            self.assertEqual(status, 0, said[-3000:])
            self.assertRegex(said, r"(?m)^all +\|  +[1-9]")

    def test_found_with_guard(self):
        """Nor do they in those that have found a fault."""
        status, said = simulate("--guarded", "--seed", *map(str, FOUND_WITH_GUARD))
        self.assertEqual(status, 0, said[-3000:])

    def test_found_in_tables(self):
        """Nor is it in those that have found a fault."""
        status, said = simulate("--table", "--seed", *map(str, FOUND_IN_TABLES))
        self.assertEqual(status, 0, said[-3000:])

    def test_found(self):
        """What was found once stays mended."""
        status, said = simulate("--without-kafka", "--seed", *map(str, FOUND))
        self.assertEqual(status, 0, said[-3000:])

    def test_found_with_kafka(self):
        """Nor does it come back with a Kafka."""
        status, said = simulate("--seed", *map(str, FOUND_WITH_KAFKA))
        self.assertEqual(status, 0, said[-3000:])

    def test_last_message_refused(self):
        """The last message may wait for ever if Kafka refuses it, and all else is as it should."""
        # In a process of its own: a test's process may be one of trial's, which must not be copied.
        module = LastRefused.__module__
        status, said = run("-c", f"import {module}; {module}.tell_last_refused()")
        self.assertEqual(status, 0, said)
        wrong, *story = said.splitlines()
        self.assertEqual(wrong, "")
        refused = [line for line in story if "refuses for ever" in line]
        self.assertEqual(len(refused), 1)
        self.assertIn("node is dead", refused[0])

    def test_found_with_replicas(self):
        """Nor does it come back with replicas."""
        status, said = simulate(
            "--without-kafka", "--replicas", "--seed", *map(str, FOUND_WITH_REPLICAS)
        )
        self.assertEqual(status, 0, said[-3000:])

    def test_found_with_kafka_and_replicas(self):
        """Nor does it with both."""
        status, said = simulate("--replicas", "--seed", *map(str, FOUND_WITH_KAFKA_AND_REPLICAS))
        self.assertEqual(status, 0, said[-3000:])

    def test_promises_of_replicas(self):
        """Three replicas keep the same promises."""
        status, said = simulate("--replicas", "--first=100", "--seeds=2")
        self.assertEqual(status, 0, said[-3000:])
        self.assertNotIn("GeneratorExit", said)

    def test_beside_an_original(self):
        """Replicas keep them beside an original, too, which tells HSM its own words."""
        status, said = simulate("--original", "--seed", *map(str, BESIDE_AN_ORIGINAL))
        self.assertEqual(status, 0, said[-3000:])
        self.assertRegex(said, r"[0-9] fleet\b")
        self.assertRegex(said, r"[0-9] original\b")
        self.assertRegex(said, r"[0-9] others\b")

    def test_repeatable(self):
        """The same seed is the same world, to the byte."""
        for options in ((), ("--replicas",)):
            said = [simulate("--seed=7", *options)[1] for _ in range(2)]
            stories = [each.rpartition("again: make")[0] for each in said]
            self.assertIn("hash ", stories[0])
            self.assertEqual(stories[0], stories[1])

    def test_jobs(self):
        """A world is the same whichever ran before it, and however many run at a time."""
        seeds = ("--until-wrong", "--first=1", "--seeds=3")
        ends = [simulate("--jobs", jobs, *seeds)[1].splitlines() for jobs in ("1", "2")]
        self.assertIn("heartbeats", ends[0][-1])
        self.assertEqual(ends[0][-2:], ends[1][-2:])

    def test_without_faults(self):
        """Where nothing goes wrong hbtd hears all the time: no node-time is excused."""
        for options in ((), ("--replicas",)):
            status, said = simulate("--no-faults", "--first=1", "--seeds=1", *options)
            self.assertEqual(status, 0, said[-3000:])
            self.assertRegex(said, r"(?m)^excused node-time: 0\.0 s of [1-9]")
            self.assertNotRegex(said, "[0-9] (crash|hang|network|hsm|etcd|disk|clock)")
            self.assertNotIn("Traceback", said)
        self.assertNotIn("excused node-time: 0.0 s", simulate("--first=1", "--seeds=1")[1])
