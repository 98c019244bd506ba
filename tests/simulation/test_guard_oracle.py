"""The oracle of the guard: which domains are disrupted, and what it notices."""

from collections import Counter
from collections.abc import Callable, Collection
from math import inf

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.guard_judge import Judge, Told
from tests.simulation.guard_oracle import GuardOracle, GuardRules
from tests.simulation.guard_watch import Statement
from tests.simulation.oracle import Timeline, Violation
from tests.simulation.outages import disrupted, domains_of, read_groups
from tests.simulation.silences import DEAD, WARNED, WELL, Silences

NODES = [f"x{x}c{c}s{s}b0n{n}" for x in (1, 2) for c in (0, 1) for s in (0, 1) for n in (0, 1, 2)]
GROUPS = read_groups(f"# of a PDU\npdu {','.join(each for each in NODES if each.endswith('n0'))}\n")
DOMAINS = domains_of(NODES, GROUPS)
CHASSIS = [each for each in NODES if each.startswith("x1c0")]

END = 300.0
FELL = 100.5
BACK = 200.0


class OutageTests(SynchronousTestCase):
    """The smallest domain that explains who is silent."""

    def found(self, silent: Collection[str], dead: Collection[str] = ()) -> list[str]:
        """Return which domains are disrupted."""
        living = {*NODES} - {*dead}
        return sorted(disrupted({*silent}, living, living, DOMAINS, 55.0))

    def some(self, *places: str) -> list[str]:
        """Return the nodes in some places."""
        return [each for each in NODES if each.startswith(places)]

    def test_kinds(self) -> None:
        """Each kind of domain is found, and not the larger ones around it."""
        for place in ("x1c0s0", "x1c0", "x1"):
            self.assertEqual(self.found(self.some(place)), [place])
        self.assertEqual(self.found(NODES), ["s0"])
        self.assertEqual(self.found(GROUPS["pdu"]), ["pdu"])

    def test_stray(self) -> None:
        """A stray node beside a chassis makes no larger domain of it, and two slots are two."""
        self.assertEqual(self.found([*self.some("x1c0"), "x2c0s0b0n0"]), ["x1c0"])
        self.assertEqual(self.found(self.some("x1c0s0", "x2c1s1")), ["x1c0s0", "x2c1s1"])

    def test_share(self) -> None:
        """Nothing is found below the share, or of fewer than three; the dead don't count."""
        few = ["x1c0s0b0n0", "x1c0s0b0n1", "x1c0s1b0n0"]
        self.assertEqual(self.found(few), [])
        self.assertEqual(self.found(few[:2], dead=[NODES[2]]), [])
        self.assertEqual(self.found(few, dead=["x1c0s1b0n1"]), ["x1c0"])


class JudgeTests(SynchronousTestCase):
    """A chassis that falls silent, is told dead after its hold, and comes back."""

    def setUp(self) -> None:
        hears = Timeline()
        hears.set(0.0, True)
        self.log = Silences(hears)
        self.rules = GuardRules(warntime=4.0, errtime=9.0, interval=1.0, hold=30.0)
        self.silent: dict[str, tuple[float, float]] = dict.fromkeys(CHASSIS, (FELL, BACK))
        self.words = {name: [(104.5, WARNED), (139.5, DEAD), (200.5, WELL)] for name in CHASSIS}
        self.statements = [self.stated("x1c0", "chassis"), self.stated("x1c0", "chassis", "over")]
        self.held = 0

    def stated(self, domain: str, kind: str, ended: str = "", at: float = 109.5) -> Statement:
        """Return a statement."""
        self.number = getattr(self, "number", 0) + 1
        what = "ended" if ended else "disrupted"
        return Statement(self.number, what, domain, kind, at, at, ended, ())

    def judge(self) -> tuple[list[str], Counter[tuple[str, str]]]:
        """Return what is wrong, and the table."""
        for number, name in enumerate(NODES):
            fell, back = self.silent.get(name, (inf, inf))
            beats = [number / 100 + 2.0 * each for each in range(int(END / 2))]
            for at in beats:
                if not fell < at < back:
                    self.log.note_heard(name, at)
            for at, word in self.words.get(name, ()):
                self.log.note_told(name, word, at)
        oracle = GuardOracle(self.log, self.rules, DOMAINS, lambda name: 2.0)
        judge = Judge(oracle, Told(self.statements, 0, self.held), END)
        wrong: list[str] = []

        def check(call: Callable[[], None]) -> None:
            try:
                call()
            except Violation as violation:
                wrong.append(str(violation))

        judge.judge(check)
        return wrong, judge.table

    def assert_wrong(self, *said: str) -> None:
        """Check that these things are wrong, and nothing else."""
        wrong, _ = self.judge()
        self.assertEqual(len(wrong), len(said), wrong)
        for each, text in zip(said, wrong, strict=True):
            self.assertIn(each, text)

    def test_right(self) -> None:
        """All is as it should be, and is counted."""
        wrong, table = self.judge()
        self.assertEqual(wrong, [])
        row = {column: number for (_, column), number in table.items()}
        self.assertEqual(row, {"disruptions": 1, "held": 6, "told dead": 6, "events": 1})

    def test_unstated(self) -> None:
        """A disruption that is not stated is noticed."""
        self.statements = []
        self.assert_wrong("stated 0 times")

    def test_twice(self) -> None:
        """So is one that is stated twice."""
        self.statements += [
            self.stated("x1c0", "chassis", at=110.0),
            self.stated("x1c0", "chassis", "over", at=140.0),
        ]
        self.assert_wrong("stated 2 times")

    def test_wrong_domain(self) -> None:
        """So is a statement about a larger domain."""
        self.statements = [self.stated("x1", "cabinet"), self.stated("x1", "cabinet", "over")]
        self.assert_wrong("it is x1c0", "stated 0 times")

    def test_too_early(self) -> None:
        """So is a death within the hold, also if the node is back by then."""
        self.words[CHASSIS[0]] = [(104.5, WARNED), (120.0, DEAD), (200.5, WELL)]
        self.assert_wrong("stayed away")

    def test_back(self) -> None:
        """Who is back within the hold is told so, and not dead."""
        name = CHASSIS[0]
        self.silent[name] = (FELL, 120.0)
        self.words[name] = [(104.5, WARNED), (120.5, WELL)]
        wrong, table = self.judge()
        self.assertEqual((wrong, table["chassis", "came back"]), ([], 1))

    def test_too_late(self) -> None:
        """A death that is told later than after the hold is noticed."""
        self.words[CHASSIS[0]] = [(104.5, WARNED), (150.0, DEAD), (200.5, WELL)]
        self.assert_wrong("is told dead at 150.0")

    def test_outside(self) -> None:
        """So is a death outside that waits."""
        name = "x2c0s0b0n0"
        self.silent[name] = (FELL, BACK)
        self.words[name] = [(104.5, WARNED), (139.5, DEAD), (200.5, WELL)]
        self.assert_wrong("it is in no disrupted domain")

    def test_warning(self) -> None:
        """So is a warning that waits."""
        del self.words[CHASSIS[0]][0]
        self.assert_wrong("nobody is warned")

    def test_return(self) -> None:
        """So is a return that waits."""
        del self.words[CHASSIS[0]][2]
        self.assert_wrong("not told back")

    def test_end(self) -> None:
        """So is what is held, or disrupted, at rest."""
        self.held = 3
        del self.statements[1]
        self.assert_wrong("without an end of their own are x1c0")

    def test_lenient(self) -> None:
        """Where one node decides that is just about to be silent, both answers are right."""
        self.silent = dict.fromkeys(CHASSIS[:3], (FELL, BACK))
        self.silent["x1c0s1b0n0"] = (103.0, BACK)
        self.words = {name: self.words[name] for name in self.silent}
        at = [(108.5, WARNED), (139.5, DEAD), (200.5, WELL)]
        self.words["x1c0s1b0n0"] = at
        self.statements = [self.stated("x1c0s0", "slot"), self.stated("x1c0s0", "slot", "over")]
        wrong, table = self.judge()
        self.assertEqual(table["slot", "events"], 1)
        self.assertEqual([each for each in wrong if "stated" in each], [])

    def test_buried(self) -> None:
        """So they are if deaths that waited are declared just as hbtd looks, or just before."""
        slots = [each for each in NODES if each.startswith(("x1c0s0", "x1c1s0"))]
        later = ["x1c0s1b0n0", "x1c0s1b0n1", "x1c1s1b0n0", "x1c1s1b0n1"]
        later += ["x2c0s0b0n0", "x2c0s1b0n0", "x2c1s0b0n0"]
        self.silent = dict.fromkeys(slots, (FELL, BACK))
        self.silent |= dict.fromkeys(later, (130.5, BACK))
        self.words = {each: [(104.5, WARNED), (139.5, DEAD), (200.5, WELL)] for each in slots}
        for each in later:
            died = 170.0 if each in GROUPS["pdu"] else 140.0
            self.words[each] = [(134.5, WARNED), (died, DEAD), (200.5, WELL)]
        self.statements = [
            self.stated(each, "slot", ended, 109.5)
            for ended in ("", "over")
            for each in ("x1c0s0", "x1c1s0")
        ]
        self.statements += [self.stated("pdu", "group", each, 140.0) for each in ("", "over")]
        wrong, table = self.judge()
        self.assertEqual((wrong, table["group", "lenient"]), ([], 1))
