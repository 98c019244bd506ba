"""The comparison of HSM's table, with a fake HSM in memory."""

from collections.abc import Iterable, Mapping

from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs

from hbtd.hsm.difference import Difference
from hbtd.hsm.reconciler import ReconcileImpossible, State
from hbtd.hsm.report import Report
from hbtd.hsm.standing import Told
from hbtd.hsm.tellings import NOTES
from hbtd.simulator.hsm_table import ComponentState
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.cohorts import ORDINARY, Limits
from hbtd.tracker.transitions import Judgement, Phase
from tests.support.hsm_memory import OTHER_URL, STARTED, WARNED, judge, lines, nodes
from tests.support.reconciler_memory import NODES, ReconcilerTestCase


def _names(differences: Iterable[Difference]) -> list[str]:
    return [each.component for each in differences]


class HealTests(ReconcilerTestCase):
    """What is wrong is put right."""

    def test_right(self):
        """Nothing is told of a table that is right, or of who is not tracked."""
        self.falsify(x0c0s0b0n9="Standby/Alert")
        self.pass_time(700)
        self.assertEqual(self.told(), [])
        self.assertEqual(self.reconciler.comparisons, 3)

    def test_living(self):
        """Who beats is told Ready, whatever HSM says, once it was heard twice."""
        words = ("Standby/Alert", "Ready/Warning", "Off/OK", "On/OK", "Empty/OK")
        self.pass_time(280)
        self.falsify(**dict(zip(NODES, words, strict=True)))
        self.pass_time(50)
        self.assertEqual({self.word(name) for name in NODES}, {"Ready/OK"})
        self.assertEqual(len(self.told()), 1)

    def test_slow(self):
        """Who beats seldom is told Ready after the second heartbeat, not before."""
        self.beating = set()
        self.falsify(x0c0s0b0n0="Ready/Warning")
        answer = self.reconciler.request()
        self.advance(1)
        for _ in range(2):
            self.advance(8)
            self.assertEqual(self.told(), [])
            self.beat(NODES[0])
            self.advance(0.5)
        self.successResultOf(answer)
        self.advance(2)
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])])
        self.assertEqual(self.reconciler.waiting, 0)

    def test_heard_during_the_first_look(self):
        """A heartbeat that comes before HSM has answered the first look does not count."""
        self.beating = set()
        self.falsify(x0c0s0b0n0="Ready/Warning")
        self.hsm.behaviour.read_ms = 4000
        answer = self.reconciler.request()
        self.advance(2)
        self.beat(NODES[0])
        self.advance(4)
        self.assertIs(self.reconciler.state, State.PAUSE)
        self.hsm.behaviour.read_ms = 0
        self.beat(NODES[0])
        self.advance(10)
        self.assertEqual(len(self.successResultOf(answer).waiting), 1)
        self.assertEqual(self.told(), [])
        self.beat(NODES[0])
        self.advance(2)
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])])

    def test_silent(self):
        """Who is not heard twice is not told Ready, and is no longer waited for after Errtime."""
        self.falsify(x0c0s0b0n0="Off/OK")
        self.beating.remove(NODES[0])
        answer = self.reconciler.request()
        for _ in range(50):
            self.advance(1)
        self.assertEqual(
            [each.component for each in self.successResultOf(answer).waiting], NODES[:1]
        )
        self.assertEqual((self.told(), self.reconciler.waiting), ([], 0))

    def test_seldom(self):
        """Who may be silent for longer than others is waited for as much longer."""
        self.tracker.set_limits(lambda x: Limits(100.0, 300.0) if x == NODES[0] else ORDINARY)
        self.beating = set()
        self.falsify(x0c0s0b0n0="Off/OK", x0c0s0b0n1="Off/OK")
        self.reconciler.request()
        self.advance(15)
        for _ in range(2):
            self.advance(60)
            self.assertEqual(self.told(), [])
            self.beat(NODES[0])
        self.advance(2)
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])])
        self.assertEqual(self.reconciler.waiting, 0)

    def test_dead(self):
        """Deaths and warnings that HSM has acknowledged are told again; Off is right for both."""
        self.beating -= set(NODES[:3])
        self.pass_time(33)
        self.beating.remove(NODES[3])
        self.pass_time(12)
        self.hsm.updates.clear()
        self.falsify(
            x0c0s0b0n0="Ready/OK", x0c0s0b0n1="Off/OK", x0c0s0b0n2="On/OK", x0c0s0b0n3="Ready/OK"
        )
        self.report()
        self.assertCountEqual(
            self.told(), [("Ready/Warning", [NODES[3]]), ("Standby/Alert", [NODES[0], NODES[2]])]
        )
        self.assertEqual(self.word(NODES[1]), "Off/OK")

    def test_passing(self):
        """What only one of the two looks shows is no difference."""
        self.falsify(x0c0s0b0n0="Standby/Alert")
        answer = self.reconciler.request()
        self.pass_time(5)
        self.falsify(x0c0s0b0n0="Ready/OK", x0c0s0b0n1="Standby/Alert")
        self.pass_time(30)
        self.assertEqual(self.successResultOf(answer).differences, 0)
        self.assertEqual(self.told(), [])

    def test_changed(self):
        """Nothing old is told of who has changed while the table was read."""
        self.beating.remove(NODES[0])
        self.pass_time(35)
        self.falsify(x0c0s0b0n0="Ready/OK")
        self.hsm.updates.clear()
        answer = self.reconciler.request()
        self.pass_time(8)
        self.beating.add(NODES[0])
        self.pass_time(10)
        self.assertEqual(self.successResultOf(answer).differences, 0)
        self.assertEqual([word for word, _ in self.told()], ["Ready/OK"])

    def test_pending(self):
        """Nothing is told of who is judged, but not committed yet, or set aside."""
        self.falsify(x0c0s0b0n0="Standby/Alert", x0c0s0b0n1="Standby/Alert")
        self.uncommitted.add([Judgement(NODES[0], WARNED, "t")])
        self.hsm.behaviour.refuse = {NODES[1]}
        self.tell(STARTED, NODES[1], NODES[2])
        self.pass_time(5)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.hsm.updates.clear()
        report = self.report()
        self.assertEqual(_names(report.unsettled), NODES[:2])
        self.assertEqual(self.word(NODES[0]), "Standby/Alert")

    def test_waiting(self):
        """Nothing is told of whom HSM is being told something."""
        self.begin(sm_timeout=60)
        self.hsm.behaviour.faulty = {NODES[0]: "hang"}
        self.tell(STARTED, NODES[0])
        self.falsify(x0c0s0b0n0="Standby/Alert")
        report = self.report()
        self.assertIs(self.notifier.standing(NODES[0]).told, Told.WAITING)
        self.assertEqual(_names(report.unsettled), NODES[:1])
        self.assertEqual((len(report.waiting), self.reconciler.told_count), (0, 0))

    def test_in_doubt(self):
        """Nothing is told of whom HSM may yet be told something older."""
        self.notifier.resume(judge(WARNED, NODES[0]), [NODES[0]])
        self.tell(STARTED, NODES[0])
        self.pass_time(3)
        self.assertIs(self.notifier.standing(NODES[0]).told, Told.IN_DOUBT)
        self.hsm.updates.clear()
        self.falsify(x0c0s0b0n0="Standby/Alert")
        report = self.report()
        self.pass_time(3)
        self.assertEqual(_names(report.unsettled), NODES[:1])
        self.assertEqual((self.told(), self.reconciler.told_count), ([], 0))

    def test_not_acknowledged(self):
        """A death or a warning that HSM has not acknowledged is not told again."""
        self.hsm.behaviour.refuse = set(NODES[:2])
        self.beating.remove(NODES[0])
        self.pass_time(28)
        self.beating.remove(NODES[1])
        self.pass_time(14)
        phases = [self.tracker.phase(name) for name in NODES[:2]]
        self.assertEqual(phases, [Phase.DEAD, Phase.WARNED])
        report = self.report()
        self.assertEqual(_names(report.unsettled), NODES[:2])
        self.assertEqual((len(report.told), self.reconciler.told_count), (0, 0))

    def test_unknown(self):
        """Who beats, but is not in HSM's table, is listed, and not told of."""
        del self.hsm.components[NODES[1]]
        report = self.report()
        self.assertEqual(list(report.unknown), [NODES[1]])
        self.assertEqual(self.told(), [])

    def test_unknown_for_a_moment(self):
        """Who is missing in one look alone is known to HSM."""
        answer = self.reconciler.request()
        self.pass_time(5)
        del self.hsm.components[NODES[1]]
        self.pass_time(10)
        self.assertEqual(list(self.successResultOf(answer).unknown), [])


class LimitTests(ReconcilerTestCase):
    """It is not done too often, nor too much of it."""

    def test_contested(self):
        """Against somebody who keeps on writing, HSM is told three times, and no more."""
        for _ in range(10):
            self.falsify(x0c0s0b0n0="Standby/Alert")
            self.pass_time(300)
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])] * 3)
        last = self.reconciler.last
        assert last is not None
        self.assertEqual(_names(last.contested), [NODES[0]])

    def test_contested_until_it_changes(self):
        """Once it has changed, it is told of as any other."""
        self.test_contested()
        self.beating.remove(NODES[0])
        self.pass_time(35)
        self.falsify(x0c0s0b0n0="Ready/OK")
        self.hsm.updates.clear()
        self.report()
        self.assertEqual(self.told(), [("Standby/Alert", [NODES[0]])])

    def test_noted(self):
        """How often HSM was told outlives the process, and so does what is contested."""
        for _ in range(2):
            self.falsify(x0c0s0b0n0="Standby/Alert")
            self.report()
            self.pass_time(4)
        self.assertEqual(len(self.told()), 2)
        notes = self.successResultOf(self.store.notes(NOTES))
        self.begin()
        self.store.write_notes(NOTES, notes)
        for _ in range(3):
            self.falsify(x0c0s0b0n0="Standby/Alert")
            self.report()
            self.pass_time(4)
        self.assertEqual(len(self.told()), 1)

    def test_not_noted(self):
        """What can't be noted is told, and noted later."""
        write = self.store.write_notes

        def lose(kind: str, notes: Mapping[str, str | None]) -> Deferred[None]:
            return fail(StoreUnusable("no")) if kind == NOTES else write(kind, notes)

        self.store.write_notes = lose  # type: ignore[method-assign]
        self.falsify(x0c0s0b0n0="Standby/Alert")
        self.report()
        self.pass_time(10)
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])])
        self.assertEqual(self.successResultOf(self.store.notes(NOTES)), {})
        self.store.write_notes = write  # type: ignore[method-assign]
        self.pass_time(2)
        self.assertEqual([*self.successResultOf(self.store.notes(NOTES))], [NODES[0]])

    def test_killed(self):
        """What a kill kept HSM from being told does not count for the next process."""
        for _ in range(4):
            self.falsify(x0c0s0b0n0="Standby/Alert")
            self.hsm.behaviour.cost_ms = 5000
            self.report()
            self.pass_time(4)
            self.assertEqual(self.reconciler.told_count, 1)
            notes = self.successResultOf(self.store.notes(NOTES))
            self.assertEqual(notes, {})
            self.begin()
            self.store.write_notes(NOTES, notes)
        self.falsify(x0c0s0b0n0="Standby/Alert")
        self.report()
        self.pass_time(4)
        self.assertEqual(self.word(NODES[0]), "Ready/OK")

    def test_nosm(self):
        """With nosm all is reported, and nothing told."""
        self.change(nosm=True)
        self.falsify(x0c0s0b0n0="Standby/Alert")
        report = self.report()
        self.pass_time(40)
        self.assertEqual(
            ([each.component for each in report.waiting], self.told()), (NODES[:1], [])
        )
        self.assertEqual((self.notifier.pending_count, self.reconciler.told_count), (0, 0))

    def test_dry_run(self):
        """A dry run tells nothing."""
        self.falsify(x0c0s0b0n0="Standby/Alert")
        report = self.report(dry_run=True)
        self.pass_time(40)
        self.assertEqual((report.differences, self.told()), (1, []))
        self.assertEqual(report.described(), f"would be told again once heard twice: {NODES[0]}")

    def test_mass(self):
        """More than a hundred deaths wait for an operator."""
        many = [f"x1c0s{slot}b0n{node}" for slot in range(26) for node in range(4)]
        for name in many:
            self.beat(name)
        self.pass_time(40)
        self.assertEqual({self.word(name) for name in many}, {"Standby/Alert"})
        self.falsify(**dict.fromkeys(many, "Ready/OK"), x0c0s0b0n0="Standby/Alert")
        self.hsm.updates.clear()
        self.pass_time(300)
        last = self.reconciler.last
        assert last is not None
        self.assertEqual(len(last.held), len(many))
        self.assertEqual(self.told(), [("Ready/OK", [NODES[0]])])
        trouble = self.reconciler.trouble()
        assert trouble is not None
        self.assertIn("104 components, first x1c0s0b0n0 (Ready/OK): dead, and not", trouble)
        self.assertEqual(len(self.report(dry_run=True).held), len(many))
        self.assertEqual(self.reconciler.trouble(), trouble)
        self.report()
        self.pass_time(2)
        self.assertEqual({self.word(name) for name in many}, {"Standby/Alert"})


class WhenTests(ReconcilerTestCase):
    """When the table is compared."""

    def test_off(self):
        """With sm_sync=0 it is compared on request only."""
        self.begin(sm_sync=0)
        self.pass_time(1000)
        self.assertEqual(self.reconciler.comparisons, 0)
        self.assertEqual(self.report().rows, 5)

    def test_leading(self):
        """A follower compares nothing; a new leader does so at once."""
        self.leading = False
        self.pass_time(20)
        before = self.reconciler.comparisons
        self.pass_time(700)
        self.assertEqual(self.reconciler.comparisons, before)
        self.failureResultOf(self.reconciler.request(), ReconcileImpossible)
        self.leading = True
        self.pass_time(15)
        self.assertEqual(self.reconciler.comparisons, before + 1)

    def test_deposed(self):
        """Who ceases to lead between the looks tells nothing."""
        self.falsify(x0c0s0b0n0="Standby/Alert")
        answer = self.reconciler.request()
        self.pass_time(5)
        self.leading = False
        self.pass_time(20)
        self.failureResultOf(answer, ReconcileImpossible)
        self.assertEqual(self.told(), [])

    def test_back(self):
        """When HSM is ready again, its table is compared at once."""
        self.hsm.behaviour.ready = False
        self.pass_time(60)
        before = self.reconciler.comparisons
        self.falsify(x0c0s0b0n0="Standby/Alert")
        self.hsm.behaviour.ready = True
        self.pass_time(25)
        self.assertEqual(self.reconciler.comparisons, before + 1)
        self.assertEqual(self.word(NODES[0]), "Ready/OK")

    def test_missing(self):
        """An HSM without the call is asked seldom, after one line, and soon after an outage."""
        self.pass_time(20)
        self.hsm.behaviour.lists = False
        with capturedLogs() as events:
            self.pass_time(3000)
        self.assertEqual(self.reconciler.failures, 3)
        self.assertIn("404", self.reconciler.failure or "")
        self.assertEqual(len(lines(events, "warn")), 1)
        self.hsm.behaviour.ready = False
        self.pass_time(10)
        self.hsm.behaviour.ready = self.hsm.behaviour.lists = True
        self.pass_time(20)
        self.assertIsNone(self.reconciler.failure)

    def test_missing_for_a_while(self):
        """One that lacked the call for a while is compared again without an outage."""
        self.hsm.behaviour.lists = False
        self.pass_time(300)
        self.hsm.behaviour.lists = True
        self.falsify(x0c0s0b0n0="Standby/Alert")
        self.pass_time(1230)
        self.assertEqual(self.word(NODES[0]), "Ready/OK")

    def test_broken(self):
        """A table that can't be read is no reason to tell anything; the next one is compared."""
        self.pass_time(20)
        self.hsm.behaviour.database_gone = True
        self.failureResultOf(self.requested(), ReconcileImpossible)
        self.hsm.behaviour.database_gone = False
        self.pass_time(20)
        self.assertEqual(self.successResultOf(self.requested()).differences, 0)
        self.assertEqual(self.told(), [])

    def requested(self) -> Deferred[Report]:
        """Request a comparison, and let time pass."""
        answer = self.reconciler.request()
        self.pass_time(15)
        return answer

    def test_one_at_a_time(self):
        """A comparison that is requested while another one goes on begins after that."""
        first = self.reconciler.request()
        self.pass_time(3)
        self.assertIs(self.reconciler.state, State.PAUSE)
        second = self.reconciler.request()
        self.pass_time(9)
        before = self.successResultOf(first)
        self.assertNoResult(second)
        self.pass_time(12)
        self.assertGreater(self.successResultOf(second).at, before.at)
        self.assertIs(self.reconciler.state, State.IDLE)

    def test_stop(self):
        """A stop ends a comparison at once."""
        self.falsify(x0c0s0b0n0="Standby/Alert")
        answer = self.reconciler.request()
        self.advance(3)
        self.successResultOf(self.reconciler.stopService())
        self.failureResultOf(answer, ReconcileImpossible)
        self.pass_time(60)
        self.assertEqual(self.told(), [])

    def test_log(self):
        """What was found is one line, and so is what HSM does not know."""
        self.falsify(**dict.fromkeys(NODES[:3], "Standby/Alert"))
        del self.hsm.components[NODES[4]]
        with capturedLogs() as events:
            self.report()
        self.assertEqual(
            lines(events, "warn"),
            [
                "HSM's table and hbtd disagree about components; told again once heard twice:"
                " 3 components: x0c0s0b0n[0-2]."
            ],
        )
        self.assertIn(
            "HSM's table lacks components that send heartbeats: x0c0s0b0n4.", lines(events, "info")
        )


class BreakTests(ReconcilerTestCase):
    """What goes on meanwhile makes it say nothing that is not so."""

    def test_new_leader_listens(self):
        """Who leads anew tells nobody dead before it has listened as long as it takes to judge."""
        self.beating.remove(NODES[0])
        self.pass_time(40)
        self.leading = False
        self.pass_time(5)
        # Another replica has heard it, and has told HSM.
        self.falsify(x0c0s0b0n0="Ready/OK")
        self.hsm.updates.clear()
        self.leading = True
        self.pass_time(28)
        self.assertEqual(self.told(), [])
        self.pass_time(40)
        self.assertEqual(self.told(), [("Standby/Alert", [NODES[0]])])

    def test_own_errtime(self):
        """It has listened for as long as it takes to judge each of them."""
        self.beating -= set(NODES[:3])
        self.pass_time(40)
        limits = {NODES[0]: Limits(40.0, 100.0), NODES[2]: Limits(5.0, 15.0)}
        self.tracker.set_limits(lambda x: limits.get(x, ORDINARY))
        self.leading = False
        self.pass_time(5)
        self.falsify(x0c0s0b0n0="Ready/OK", x0c0s0b0n1="Ready/OK", x0c0s0b0n2="Ready/OK")
        self.hsm.updates.clear()
        self.leading = True
        told = []
        for seconds in (14, 15, 15, 55, 20):
            self.pass_time(seconds)
            told.append([names for _, names in self.told()])
        first, second, third = ([NODES[2]], [NODES[1]], [NODES[0]])
        self.assertEqual(
            told, [[], [first], [first, second], [first, second], [first, second, third]]
        )

    def test_other_hsm(self):
        """What the old HSM's table has wrong is not told the new one after a change of sm_url."""
        self.begin(sm_sync=0)
        self.beating.remove(NODES[0])
        self.pass_time(60)
        self.falsify(x0c0s0b0n0="On/OK")
        self.hsm.updates.clear()
        answer = self.reconciler.request()
        self.pass_time(5)
        self.change(sm_url=OTHER_URL)
        self.other.components[NODES[0]] = ComponentState("On", "OK")
        self.pass_time(20)
        self.failureResultOf(answer, ReconcileImpossible)
        self.assertEqual(self.other.updates, [])

    def test_other_hsm_compared(self):
        """The new HSM is compared at once, and what the old one was told does not count."""
        for _ in range(4):
            self.falsify(x0c0s0b0n0="Standby/Alert")
            self.report()
            self.pass_time(4)
        self.assertEqual(self.reconciler.contested, 1)
        self.other.components[NODES[0]] = ComponentState("Standby", "Alert")
        self.change(sm_url=OTHER_URL)
        self.pass_time(30)
        self.assertEqual(len(self.other.updates), 1)

    def test_nosm_meanwhile(self):
        """With nosm and much that waits a stop does not wait for what is left to tell."""
        self.falsify(x0c0s0b0n0="Standby/Alert")
        self.beating.remove(NODES[0])
        answer = self.reconciler.request()
        self.pass_time(6)
        self.beat(NODES[0])
        self.pass_time(6)
        self.successResultOf(answer)
        self.change(nosm=True)
        self.tell(STARTED, *nodes(3000)[1:])
        self.beating.add(NODES[0])
        self.pass_time(10)
        self.successResultOf(self.reconciler.stopService())

    def test_portions(self):
        """Very many are told in portions, between which the reactor does other work."""
        names = nodes(1000)
        self.beating.update(names)
        self.pass_time(4)
        self.beating -= set(names)
        self.pass_time(40)
        self.falsify(**dict.fromkeys(names, "Ready/OK"))
        sizes: list[int] = []
        turns: list[None] = []
        tell_again = self.notifier.tell_again

        def tell(judgements: Iterable[Judgement]) -> None:
            if again := list(judgements):
                self.assertEqual(len(turns), len(sizes))
                sizes.append(len(again))
                self.clock.callLater(0, turns.append, None)
            tell_again(again)

        self.notifier.tell_again = tell  # type: ignore[method-assign]
        self.report()
        self.pass_time(4)
        self.assertEqual({self.word(name) for name in names}, {"Standby/Alert"})
        self.assertEqual(sizes, [100] * 10)

    def test_many(self):
        """What is said of very many is short, in the log, too."""
        names = nodes(800)
        for name in names:
            self.beat(name)
        self.beating.update(names)
        self.tell(STARTED, *names)
        self.pass_time(4)
        self.falsify(**dict.fromkeys(names, "Standby/Alert"))
        with capturedLogs() as events:
            self.report()
        (line,) = lines(events, "warn")
        self.assertIn("800 components, the first 500 components: x", line)
        self.pass_time(5)
        self.assertEqual({self.word(name) for name in names}, {"Ready/OK"})
