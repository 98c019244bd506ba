"""Others that write HSM's table: somebody who falsifies it, restores it, or fights over a row."""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from hbtd.simulator.hsm_table import ComponentState
from tests.simulation.clock import WorldClock
from tests.simulation.hsm import WorldHSM
from tests.simulation.truth import Truth

SYNC = 20
"""Seconds between two comparisons of HSM's table in a world."""

_WORDS = ("Ready/OK", "Ready/Warning", "Standby/Alert", "Off/OK", "On/OK", "Standby/OK")

_FIGHT = 5.0
"""Seconds between two words of somebody who fights over a row."""


class Tampering:
    """What others than hbtd do to HSM's table, decided by a random generator of its own."""

    def __init__(
        self,
        seed: int,
        clock: WorldClock,
        hsm: WorldHSM,
        names: Sequence[str],
        truth: Truth,
        share: float = 0.67,
    ) -> None:
        """Prepare for a world; in a `share` of all worlds the table is not left alone."""
        self._random = Random(f"table {seed}")
        self._clock = clock
        self._hsm = hsm
        self._names = names
        self._truth = truth
        self._saved: dict[str, str] = {}
        self.written: Counter[str] = Counter()
        """How often a component's row was written by others since hbtd told something new of it."""
        self.again: Counter[str] = Counter()
        """How often hbtd has told the same of a component again since then."""
        self.happens = self._random.random() < share
        """Whether anything is done to the table in this world."""

    def schedule(self, begin: float, end: float, between: float = 25.0) -> None:
        """Plan what is done between two times, every `between` seconds on average."""
        if not self.happens:
            return
        kinds: tuple[Callable[[], None], ...] = (
            self._falsify,
            self._falsify,
            self._save,
            self._restore,
            self._lose,
            self._fight,
            self._slow,
            self._hide,
        )
        time = begin
        while (time := time + self._random.expovariate(1 / between)) < end:
            self._clock.at(time, self._random.choice(kinds))

    def told_new(self, name: str) -> None:
        """Note that hbtd told HSM something new of a component, so that it counts anew."""
        self.written.pop(name, None)
        self.again.pop(name, None)

    def write(self, name: str, word: str) -> None:
        """Have others write a component's row: state and flag, such as `Standby/Alert`."""
        state, _, flag = word.partition("/")
        self._hsm.components[name] = ComponentState(state, flag)
        self.written[name] += 1
        self._truth.note("others", f"write {name} {word}")

    def fight(self, name: str, word: str, seconds: float) -> None:
        """Have others write a component's row again and again, for some seconds."""
        until = self._clock.now + seconds
        self._truth.note("others", f"fight for {name}: {word}")

        def write() -> None:
            if self._clock.now < until:
                self.write(name, word)
                self._clock.after(_FIGHT, write)

        write()

    def _some(self, most: int) -> list[str]:
        return self._random.sample(self._names, self._random.randint(1, most))

    def _falsify(self) -> None:
        for name in self._some(8):
            self.write(name, self._random.choice(_WORDS))

    def _save(self) -> None:
        rows = self._hsm.components
        self._saved = {name: f"{row.state}/{row.flag}" for name, row in rows.items()}

    def _restore(self) -> None:
        self._truth.note("others", "restore HSM's table")
        for name, word in self._saved.items():
            row = self._hsm.components.get(name)
            if row is None or f"{row.state}/{row.flag}" != word:
                self.write(name, word)

    def _lose(self) -> None:
        for name in self._some(5):
            if self._hsm.components.pop(name, None) is not None:
                self._truth.note("others", f"remove {name}")

    def _fight(self) -> None:
        name, word = self._random.choice(self._names), self._random.choice(_WORDS)
        self.fight(name, word, self._random.uniform(10, self._random.choice((90, 300))))

    def _slow(self) -> None:
        self._change(self._random.uniform(0, 8000), "read_ms", 0.0)

    def _hide(self) -> None:
        self._change(value=False, field="lists", usual=True)

    def _change(self, value: float, field: str, usual: float) -> None:
        self._truth.note("others", f"HSM: {field} is {value}")
        self._hsm.change({field: value})
        self._clock.after(self._random.uniform(5, 40), lambda: self._hsm.change({field: usual}))
