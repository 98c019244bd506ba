"""Tests of maintenance in force: who is spared, until when, and what follows."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.rules import maintenances
from hbtd.rules.maintenance import LONGEST_NODESET, MAINTENANCE, MOST, MaintenanceRefused
from hbtd.rules.maintenances import NoRoomForMaintenance, NoSuchMaintenance
from hbtd.store.interface import StoreUnusable
from hbtd.store.settings import Setting
from hbtd.tracker.cohorts import ORDINARY, Limits
from hbtd.tracker.forgotten import ForgottenLately
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Phase
from tests.support.logged import said
from tests.support.maintenance_memory import (
    ERRTIME,
    WALL,
    WARNTIME,
    FailingStore,
    MaintenanceTestCase,
)

A, B, C, D = (f"x0c0s0b0n{number}" for number in range(4))


class TimedTests(MaintenanceTestCase):
    """Tests of maintenance with a given end."""

    def test_no_alarm(self) -> None:
        """Who is in maintenance is not judged; at its end it has the full Errtime from then."""
        self.beat(A, B)
        self.set(A, seconds=100)
        self.assertEqual(self.advance(99), [(B, "WARNED"), (B, "DIED")])
        self.assertEqual(self.advance(1 + WARNTIME - 1), [])
        self.assertEqual(self.advance(1), [(A, "WARNED")])
        self.assertEqual(self.advance(ERRTIME - WARNTIME - 1), [])
        self.assertEqual(self.advance(1), [(A, "DIED")])

    def test_heard_at_the_end(self) -> None:
        """Whoever is heard after the end is judged as always."""
        self.beat(A)
        self.set(A, seconds=100)
        self.advance(105)
        self.assertEqual(self.beat(A), [])
        self.assertEqual(self.advance(WARNTIME - 1), [])
        self.assertEqual(self.advance(1), [(A, "WARNED")])

    def test_ended(self) -> None:
        """At the end the leader removes it from the store, and says so once."""
        self.beat(A)
        self.set(A, B, seconds=5)
        with capturedLogs() as events:
            self.advance(7)
        self.assertEqual((self.kept(), len(self.maintenances.in_force)), ([], 0))
        self.assertEqual(
            [text for text in said(events, LogLevel.info) if "Maintenance" in text],
            ["Maintenance 4g4r75 has ended: 2 components judged again, unless in another one."],
        )

    def test_ended_by_somebody(self) -> None:
        """Whoever ends it does so at once, and can't do it twice."""
        self.beat(A)
        id = self.set(A)
        self.advance(50)
        self.end(id)
        self.assertEqual(self.kept(), [])
        self.assertEqual(self.advance(WARNTIME), [(A, "WARNED")])
        self.assertRaises(NoSuchMaintenance, self.maintenances.find, id)

    def test_changed(self) -> None:
        """Its end may be put off, and drawn near, from when that is asked for."""
        self.beat(A)
        id = self.set(A, seconds=100)
        self.advance(50)
        self.change(id, For=100, Reason="more")
        self.assertEqual(self.advance(99 + WARNTIME), [])
        self.assertEqual(self.maintenances.in_force.entries, {})
        self.assertEqual(self.advance(1), [(A, "WARNED")])
        self.beat(A)
        id = self.set(A, seconds=100)
        self.change(id, For=5)
        self.assertEqual(self.advance(5 + WARNTIME), [(A, "WARNED")])

    def test_nothing_to_change(self) -> None:
        """A change that changes nothing is refused."""
        id = self.set(A)
        changing = Deferred.fromCoroutine(
            self.maintenances.change(self.maintenances.find(id), {"For": None})
        )
        self.failureResultOf(changing, MaintenanceRefused)

    def test_overlapping(self) -> None:
        """Who is in two maintenances is judged anew when the second one has ended."""
        self.beat(A, B)
        self.set(A, B, seconds=50)
        self.set(B, seconds=100)
        self.assertEqual(self.advance(99), [(A, "WARNED"), (A, "DIED")])
        self.assertEqual(self.advance(1 + WARNTIME), [(B, "WARNED")])

    def test_all_kinds(self) -> None:
        """The dead, the warned and those never heard are spared from when they are heard."""
        self.beat(A)
        self.advance(ERRTIME)
        self.beat(B)
        self.advance(WARNTIME)
        self.set(A, B, C)
        self.assertEqual(self.beat(A, B, C), ["STARTED", "RESTARTED", "STARTED"])
        self.assertEqual(self.advance(500), [])
        self.tracker.forget(A)
        self.assertEqual(self.beat(A), ["STARTED"])
        self.assertEqual(self.advance(99), [])

    def test_stepping_wall_clock(self) -> None:
        """A step of the wall clock neither ends it nor prolongs it while hbtd runs."""
        for step in (86400.0, -86400.0):
            self.beat(A)
            id = self.set(A, seconds=100)
            self.stepped += step
            entry = self.maintenances.find(id)
            self.assertEqual(self.maintenances.until(entry), self.wall() + 100)
            self.assertEqual(self.advance(99), [])
            self.assertTrue(self.tracker.is_spared(A))
            self.assertEqual(self.advance(1), [])
            self.assertFalse(self.tracker.is_spared(A))

    def test_other_wall_clock(self) -> None:
        """Another replica, whose wall clock is wrong, grants as many seconds as it says."""
        self.beat(A)
        id = self.set(A, seconds=100)
        text = self.store.settings.text(MAINTENANCE, id)
        assert text is not None
        self.end(id)
        for wrong in (-5000.0, 5000.0):
            self.stepped = wrong
            self.store.settings.apply(Setting(MAINTENANCE, f"other{wrong}", text), 0)
            self.advance(99)
            self.assertTrue(self.tracker.is_spared(A))
            self.advance(1)
            self.assertFalse(self.tracker.is_spared(A))

    def test_restart(self) -> None:
        """After a restart it lasts as long as it has left, before any record is restored."""
        self.beat(A)
        self.set(A, seconds=100)
        self.restart(60)
        self.tracker.restore([Record(A, 0.0, "", "", False)], [], self.observed.now(), 10, 30)
        self.assertEqual(self.advance(39), [])
        self.assertEqual(self.advance(1 + WARNTIME), [(A, "WARNED")])

    def test_over_at_restart(self) -> None:
        """One that has ended while hbtd did not run is not in force, and is removed."""
        self.set(A, seconds=100)
        self.restart(101)
        self.assertFalse(self.tracker.is_spared(A))
        self.advance(2)
        self.assertEqual(self.kept(), [])

    def test_restart_in_the_past(self) -> None:
        """With a wall clock that was set back before a restart, it lasts no longer than given."""
        self.set(A, seconds=100)
        self.stepped = -86400.0
        self.restart()
        self.advance(99)
        self.assertTrue(self.tracker.is_spared(A))
        self.advance(1)
        self.assertFalse(self.tracker.is_spared(A))

    def test_unreadable(self) -> None:
        """What is in the store and can't be read is logged, and harms no other."""
        with capturedLogs() as events:
            self.store.settings.apply(Setting(MAINTENANCE, "odd", "{\x1b"), 0)
        self.assertIn(
            "The maintenance odd in the store can't be read", said(events, LogLevel.error)[0]
        )
        self.set(A)
        self.assertTrue(self.tracker.is_spared(A))

    def test_unreadable_components(self) -> None:
        """Components that can't be read are logged, and are not in it; all others are."""
        text = self.store.settings.text(MAINTENANCE, self.set(A))
        assert text is not None
        for odd in ("x0c0s[5-1]b0n0", "x[0-9999]c[0-9999]", "@all"):
            for call in self.clock.getDelayedCalls():
                call.cancel()
            self.store = FailingStore()
            self.begin()
            with capturedLogs() as events:
                self.store.settings.replace(
                    (Setting(MAINTENANCE, name, text.replace(A, odd if odd_too else A)), 0)
                    for name, odd_too in (("a", True), ("b", False), ("c", True))
                )
            self.assertEqual(len(said(events, LogLevel.error)), 2)
            self.assertTrue(self.tracker.is_spared(A))
            self.assertEqual([self.maintenances.find(id).number for id in "abc"], [0, 1, 0])
            for id in "abc":
                self.end(id)
            self.assertFalse(self.tracker.is_spared(A))

    def test_bug(self) -> None:
        """A bug in one of them harms no other."""
        spare = self.tracker.spare
        self.patch(self.tracker, "spare", lambda _: 1 / 0)
        id = self.set(A)
        (failure,) = self.flushLoggedErrors(ZeroDivisionError)
        self.assertIsNotNone(failure)
        self.patch(self.tracker, "spare", spare)
        self.set(B)
        self.assertEqual([self.tracker.is_spared(x) for x in (A, B)], [False, True])
        self.end(id)

    def test_ended_while_written(self) -> None:
        """One that is ended, or changed, just as the leader writes who is back stays so."""
        for change in ("end", "change"):
            self.beat(A, B)
            id = self.set(A, B, back=True, seconds=86400)
            entry = self.maintenances.find(id)
            self.advance(WARNTIME + 1)
            self.beat(A)
            hold = self.store.hold = Deferred()
            doing = Deferred.fromCoroutine(
                self.maintenances.end(entry)
                if change == "end"
                else self.maintenances.change(entry, {"For": 60})
            )
            self.clock.advance(2)
            self.assertNoResult(doing)
            hold.callback(None)
            self.successResultOf(doing)
            self.clock.advance(30)
            if change == "end":
                self.assertEqual((self.kept(), self.maintenances.in_force.entries), ([], {}))
            else:
                self.assertEqual((self.kept(), entry.maintenance.seconds), ([B], 60))

    def test_put_off_while_removed(self) -> None:
        """One whose end is put off just as the leader removes it goes on."""
        self.beat(A)
        id = self.set(A, seconds=5)
        text = self.store.settings.text(MAINTENANCE, id)
        assert text is not None
        self.store.hold = Deferred()
        hold = self.store.hold
        self.clock.advance(5)
        later = text.replace(f'"At":{WALL}', f'"At":{WALL + 4}')
        later = later.replace(f'"Until":{WALL + 5}', f'"Until":{WALL + 104}')
        self.clock.advance(1)
        # Another replica has written it before.
        self.store.settings.apply(Setting(MAINTENANCE, id, later), 0)
        hold.callback(None)
        self.clock.advance(20)
        self.assertEqual(self.kept(), [A])
        self.assertTrue(self.tracker.is_spared(A))

    def test_changed_at_once(self) -> None:
        """Two changes in one moment are made both; one after the end is told that it is over."""
        id = self.set(A)
        entry = self.maintenances.find(id)
        hold = self.store.hold = Deferred()
        changing = [
            Deferred.fromCoroutine(self.maintenances.change(entry, fields))
            for fields in ({"For": 60}, {"Reason": "other"})
        ]
        hold.callback(None)
        self.settle()
        for each in changing:
            self.successResultOf(each)
        self.assertEqual((entry.maintenance.seconds, entry.maintenance.reason), (60, "other"))
        hold = self.store.hold = Deferred()
        ending = Deferred.fromCoroutine(self.maintenances.end(entry))
        changing = [Deferred.fromCoroutine(self.maintenances.change(entry, {"For": 60}))]
        hold.callback(None)
        self.settle()
        self.successResultOf(ending)
        self.failureResultOf(changing[0], NoSuchMaintenance)
        self.assertEqual(self.kept(), [])

    def test_ends_take_no_memory(self) -> None:
        """Ends that matter no more are not kept, however often they are moved."""
        id = self.set(A)
        self.set(B, seconds=50)
        for number in range(300):
            self.change(id, For=60_000 + number)
        self.assertLess(len(self.maintenances._maintaining._ends), 110)
        self.beat(B)
        self.advance(50)
        self.assertFalse(self.tracker.is_spared(B))
        self.change(id, For=5)
        self.advance(6)
        self.assertEqual(self.maintenances.in_force.entries, {})

    def test_follower(self) -> None:
        """A follower finds the end by its own clock, and leaves the store to the leader."""
        self.leads = False
        self.beat(A)
        self.set(A, seconds=5)
        self.advance(20)
        self.assertFalse(self.tracker.is_spared(A))
        self.assertEqual(self.kept(), [A])
        self.leads = True
        self.advance(2)
        self.assertEqual(self.kept(), [])

    def test_changed_after_its_end(self) -> None:
        """One that has ended here, and was put off by somebody who saw it last, goes on."""
        self.leads = False
        id = self.set(A, seconds=5)
        text = self.store.settings.text(MAINTENANCE, id)
        assert text is not None
        self.advance(6)
        later = text.replace(f'"At":{WALL}', f'"At":{WALL + 4}')
        later = later.replace(f'"Until":{WALL + 5}', f'"Until":{WALL + 104}')
        self.store.settings.apply(Setting(MAINTENANCE, id, later), 0)
        self.assertTrue(self.tracker.is_spared(A))
        self.leads = True
        self.advance(10)
        self.assertEqual(self.kept(), [A])

    def test_store_fails(self) -> None:
        """If the store fails nothing is in force; what is over is removed when it works."""
        self.store.fails = True
        end = self.maintenances.read_end({"For": 60})
        self.failureResultOf(
            Deferred.fromCoroutine(self.maintenances.set(A, end, "", "")), StoreUnusable
        )
        self.assertFalse(self.tracker.is_spared(A))
        self.store.fails = False
        self.set(A, seconds=5)
        self.store.fails = True
        self.advance(60)
        self.assertFalse(self.tracker.is_spared(A))
        self.assertEqual(self.kept(), [A])
        self.store.fails = False
        self.advance(50)
        self.assertEqual(self.kept(), [])

    def test_room(self) -> None:
        """There is room for so many maintenances, and for so long nodesets."""
        self.assertRaises(MaintenanceRefused, self.maintenances.check_room, 1, LONGEST_NODESET + 1)
        for _ in range(MOST - 1):
            self.set(A)
        self.maintenances.check_room(1, 10)
        self.set(A)
        self.assertRaises(NoRoomForMaintenance, self.maintenances.check_room, 1, 10)
        self.assertEqual(len(self.maintenances.in_force), 1)

    def test_many(self) -> None:
        """The reactor has its turns while thousands of components are spared, and at the end."""
        names = [f"x{number}c0s0b0n0" for number in range(5000)]
        self.beat(*names)
        turns = list[int]()
        call_later = self.clock.callLater

        def counted(delay: float, *args: Any) -> Any:
            turns[-1] += delay == 0
            return call_later(delay, *args)

        self.patch(self.clock, "callLater", counted)
        turns.append(0)
        id = self.set(*names)
        self.assertEqual(len(self.tracker.spared_components()), len(names))
        turns.append(0)
        self.end(id)
        self.assertEqual(len(self.tracker.spared_components()), 0)
        self.assertEqual(turns, [4, 4])
        self.assertEqual(len(self.tracker._cohorts()), 2)
        self.assertEqual(len(self.advance(ERRTIME)), 2 * len(names))

    def test_nobody_who_beats(self) -> None:
        """However long it takes to end one, nobody is judged who has beaten in time meanwhile."""
        names = [f"x{number}c0s0b0n0" for number in range(5000)]
        self.beat(*names)
        id = self.set(*names)
        call_later = self.clock.callLater
        self.patch(
            self.clock, "callLater", lambda delay, *args: call_later(delay or WARNTIME - 2.0, *args)
        )
        ending = Deferred.fromCoroutine(self.maintenances.end(self.maintenances.find(id)))
        for _ in range(4):
            self.assertNoResult(ending)
            self.beat(*names)
            self.assertEqual(self.advance(WARNTIME - 2), [])
        self.successResultOf(ending)
        self.assertEqual(self.tracker.spared_components(), [])
        self.beat(*names)
        self.assertEqual(len(self.advance(ERRTIME)), 2 * len(names))

    def test_read_anew_while_applied(self) -> None:
        """If all is read anew while thousands are being spared, they are when that has ended."""
        end = self.maintenances.read_end({"For": 600})
        Deferred.fromCoroutine(self.maintenances.set("x[0-9999]c0s0b0n0", end, "", ""))
        self.assertEqual(len(self.maintenances.in_force), 1000)
        (id,) = self.maintenances.in_force.entries
        text = self.store.settings.text(MAINTENANCE, id)
        assert text is not None
        other = text.replace("x[", "x1[")
        self.store.settings.replace(
            [(Setting(MAINTENANCE, id, text), 1), (Setting(MAINTENANCE, "b", other), 2)]
        )
        self.assertEqual(len(self.maintenances.in_force), 19_000)


class BackTests(MaintenanceTestCase):
    """Tests of maintenance that ends with the return of components."""

    def test_back(self) -> None:
        """It ends for a component with its first heartbeat after a silence of Warntime."""
        self.beat(A, B)
        self.set(A, B, back=True, seconds=5000)
        for _ in range(10):
            self.assertEqual(self.advance(WARNTIME - 1), [])
            self.assertEqual(self.beat(A, B), [])
        self.assertEqual(self.advance(400), [])
        self.assertEqual(self.beat(A), ["STARTED"])
        self.assertEqual(self.advance(WARNTIME), [(A, "WARNED")])
        self.assertEqual(self.advance(4000), [(A, "DIED")])

    def test_own_warntime(self) -> None:
        """Of a component with a threshold, that silence is as long as its own Warntime."""
        self.tracker.set_limits(lambda xname: Limits(40.0, 90.0) if xname == A else ORDINARY)
        self.beat(A, B)
        self.set(A, B, back=True, seconds=5000)
        self.advance(39)
        self.assertEqual(self.beat(A, B), ["STARTED"])
        self.assertEqual([self.tracker.is_spared(each) for each in (A, B)], [True, False])
        self.advance(40)
        self.assertEqual(self.beat(A), ["STARTED"])
        self.assertFalse(self.tracker.is_spared(A))

    def test_kept(self) -> None:
        """The leader writes who is back a moment later, many in one go, and the rest remains."""
        names = [f"x0c0s{number}b0n0" for number in range(20)]
        self.beat(*names)
        self.set(*names, back=True)
        self.advance(60)
        self.store.written.clear()
        with capturedLogs() as events:
            for name in names[:7]:
                self.beat(name)
            self.clock.advance(0.9)
            self.assertEqual(self.store.written, [])
            self.advance(1)
        self.assertEqual(self.kept(), ["x0c0s[7-19]b0n0"])
        self.assertEqual(len(self.store.written), 1)
        self.assertEqual(
            [text for text in said(events, LogLevel.info) if "Maintenance" in text],
            ["Maintenance 4g4r75 has ended for 7 components, which are back; 13 are still in it."],
        )
        self.beat(*names[7:])
        self.advance(2)
        self.assertEqual((self.kept(), self.maintenances.in_force.entries), ([], {}))

    def test_back_at_the_stop(self) -> None:
        """Who is back is written when hbtd stops, and is not spared after the restart."""
        self.beat(A, B)
        self.set(A, B, back=True)
        self.advance(60)
        self.beat(A)
        self.restart()
        self.assertEqual([self.tracker.is_spared(name) for name in (A, B)], [False, True])

    def test_back_twice_told(self) -> None:
        """Who has left stays out, also if a text that was made before that is written later."""
        self.beat(A, B)
        id = self.set(A, B, back=True)
        text = self.store.settings.text(MAINTENANCE, id)
        assert text is not None
        self.advance(60)
        self.beat(A)
        self.advance(2)
        self.store.settings.apply(Setting(MAINTENANCE, id, text), 0)
        self.assertEqual([self.tracker.is_spared(name) for name in (A, B)], [False, True])
        self.advance(2)
        self.assertEqual(self.kept(), [B])

    def test_told_by_the_leader(self) -> None:
        """A follower that has not heard a return spares a component no more once it is told."""
        self.leads = False
        self.beat(A, B)
        id = self.set(A, B, back=True)
        text = self.store.settings.text(MAINTENANCE, id)
        assert text is not None
        self.advance(60)
        self.store.settings.apply(Setting(MAINTENANCE, id, text.replace("x0c0s0b0n[0-1]", B)), 0)
        self.assertEqual([self.tracker.is_spared(name) for name in (A, B)], [False, True])
        self.assertEqual(self.beat(A), [])

    def test_follower_hears_first(self) -> None:
        """A follower lets go of who is back; it writes that when it leads before it was told."""
        self.leads = False
        self.beat(A, B)
        self.set(A, B, back=True)
        self.advance(60)
        self.assertEqual(self.beat(A), ["STARTED"])
        self.advance(30)
        self.assertEqual(self.kept(), ["x0c0s0b0n[0-1]"])
        self.leads = True
        self.advance(2)
        self.assertEqual(self.kept(), [B])

    def test_never_heard(self) -> None:
        """Who was never heard, or is dead, is back with the first heartbeat."""
        self.beat(A)
        self.advance(ERRTIME)
        self.set(A, B, back=True)
        self.assertEqual(self.beat(A, B), ["STARTED", "STARTED"])
        self.assertEqual(self.tracker.spared_components(), [])

    def test_limit(self) -> None:
        """Who is not back at its limit is judged anew, and told dead."""
        self.beat(A)
        self.set(A, back=True, seconds=100)
        self.assertEqual(self.advance(100 + ERRTIME), [(A, "WARNED"), (A, "DIED")])

    def test_changed(self) -> None:
        """Put off, it ends with the return as before; others can be made to end so."""
        self.beat(A, B)
        id = self.set(A, back=True, seconds=100)
        self.assertEqual(self.change(id, For=200).back, True)
        other = self.set(B, seconds=100)
        self.assertEqual(self.change(other, Until="back").back, True)
        self.advance(150)
        self.assertEqual(self.beat(A, B), ["STARTED", "STARTED"])
        self.assertEqual(self.tracker.spared_components(), [])

    def test_back_in_another(self) -> None:
        """Who is back stays in another maintenance that does not end with that."""
        self.beat(A)
        self.set(A, back=True)
        self.set(A, seconds=1000)
        self.advance(60)
        self.assertEqual(self.beat(A), ["STARTED"])
        self.assertEqual(self.advance(900), [])
        self.assertEqual(self.kept(), [A])

    def test_irregular(self) -> None:
        """If those that are left take too long a text, it is written when it is short again."""
        names = [f"x{number}c0s0b0n0" for number in range(4000)]
        self.patch_longest(5000)
        self.beat(*names)
        self.set(*names, back=True)
        self.advance(60)
        self.beat(*names[1::2])
        self.advance(5)
        self.assertEqual(self.kept(), ["x[0-3999]c0s0b0n0"])
        self.beat(*names[:3000:2])
        self.advance(60)
        self.assertEqual(len(self.kept()), 1)
        self.assertLess(len(self.kept()[0]), 5000)
        self.assertEqual(len(self.maintenances.in_force), 500)

    def patch_longest(self, characters: int) -> None:
        """Have texts of so many characters be too long already."""
        self.patch(maintenances, "LONGEST_SHORTENED", characters)


class AwayTests(MaintenanceTestCase):
    """Tests of components that say that they will be away."""

    def test_back_in_time(self) -> None:
        """A component that is back in time starts, without an alarm, and is judged as always."""
        self.beat(A, B)
        self.assertTrue(self.away(A))
        self.assertEqual(self.advance(400), [(B, "WARNED"), (B, "DIED")])
        self.assertEqual(self.beat(A), ["STARTED"])
        self.assertEqual(self.advance(2), [])
        self.assertEqual(self.kept(), [])
        self.assertEqual(self.advance(WARNTIME), [(A, "WARNED")])

    def test_soon_back(self) -> None:
        """A fast reboot counts, however short it is; a heartbeat that was under way does not."""
        self.beat(A)
        self.away(A)
        self.advance(1)
        self.assertEqual(self.beat(A), [])
        self.assertTrue(self.tracker.is_spared(A))
        self.advance(1)
        self.assertEqual(self.beat(A), ["STARTED"])

    def test_not_back(self) -> None:
        """A component that is not back then is declared dead then, without a warning."""
        self.beat(A)
        self.away(A, 100)
        self.assertEqual(self.advance(99), [])
        judgements = [*self.sweep()]
        self.clock.advance(1)
        judgements += self.sweep()
        self.assertEqual(
            [(each.component, each.transition.name, each.why) for each in judgements],
            [(A, "DIED", "silent for 100.0 s; it had said that it would be back by then")],
        )
        self.advance(2)
        self.assertEqual(self.kept(), [])
        self.assertEqual(self.beat(A), ["STARTED"])

    def test_short(self) -> None:
        """Nobody is declared dead who has been silent for less than Errtime, whatever it has said.

        Not even if its last heartbeat was under way when it said so, or an operator draws its end
        near.
        """
        self.beat(A, B)
        self.away(A, 1.0)
        self.away(B, 600.0)
        self.clock.advance(1.9)
        self.assertEqual(self.beat(A), [])
        self.change(f"away-{B}", For=1)
        self.assertEqual(self.advance(ERRTIME - 2), [])
        self.assertEqual(self.beat(A, B), ["STARTED", "STARTED"])
        self.advance(ERRTIME - 1)
        # With times of its own, these are what counts.
        self.tracker.set_limits(lambda _: Limits(None, 100.0))
        self.beat(A, B)
        self.away(A, 1.0)
        self.assertEqual(self.advance(100), [(B, "WARNED"), (B, "DIED")])
        self.assertEqual(self.advance(5), [(A, "DIED")])

    def test_not_back_while_deaf(self) -> None:
        """Nobody is declared dead as not back while it could not be heard, and then in time."""
        self.observed.deaf = True
        self.advance(20)
        self.observed.deaf = False
        self.beat(A, B)
        self.away(A, 100)
        self.away(B, 100)
        self.advance(90)
        self.observed.deaf = True
        self.advance(50)
        self.observed.deaf = False
        self.assertEqual(self.advance(9), [])
        self.assertEqual(self.beat(A), ["STARTED"])
        self.assertEqual(self.advance(1), [(B, "DIED")])

    def test_in_maintenance(self) -> None:
        """Who is not back, but in maintenance, is not declared dead before that has ended."""
        self.beat(A)
        self.set(A, seconds=300)
        self.away(A, 100)
        self.assertEqual(self.advance(300 + WARNTIME - 1), [])
        self.assertEqual(self.advance(1), [(A, "WARNED")])

    def test_in_maintenance_until_back(self) -> None:
        """Who comes back ends both, however short it was away."""
        self.beat(A)
        self.set(A, back=True)
        self.away(A)
        self.advance(5)
        self.assertEqual(self.beat(A), ["STARTED"])
        self.assertEqual(self.tracker.spared_components(), [])

    def test_dead(self) -> None:
        """Of a component that is dead, or not tracked, there is nothing to note."""
        self.beat(A)
        self.advance(ERRTIME)
        self.assertEqual([self.away(A), self.away(B)], [False, False])
        self.assertEqual(self.store.written, [])

    def test_too_soon(self) -> None:
        """A component can say so once in Errtime, whether it has been back or not."""
        self.beat(A, B)
        self.maintenances.check_away(A, {"For": 5})
        self.away(A)
        self.advance(3)
        self.beat(A)
        self.maintenances.check_away(B, {"For": 5})
        self.assertRaises(ForgottenLately, self.maintenances.check_away, A, {"For": 5})
        self.advance(ERRTIME)
        self.maintenances.check_away(A, {"For": 5})

    def test_not_stored(self) -> None:
        """Who could not be heard, as the store failed, may say so again at once."""
        self.beat(A)
        self.store.fails = True
        saying = Deferred.fromCoroutine(self.maintenances.away(A, 60.0, ""))
        self.failureResultOf(saying, StoreUnusable)
        self.store.fails = False
        self.maintenances.check_away(A, {"For": 5})
        self.away(A)
        self.assertRaises(ForgottenLately, self.maintenances.check_away, A, {"For": 5})

    def test_too_soon_on_another_replica(self) -> None:
        """What it has said to another replica counts, too."""
        self.beat(A)
        self.away(A)
        text = self.store.settings.text("away", A)
        self.kill()
        self.store.settings.replace([])
        self.beat(A)
        self.store.settings.apply(Setting("away", A, text), 1)
        self.assertRaises(ForgottenLately, self.maintenances.check_away, A, {"For": 5})

    def test_ended_by_an_operator(self) -> None:
        """If an operator ends it, the component has the full Errtime from then."""
        self.beat(A)
        self.away(A)
        self.advance(50)
        self.end(f"away-{A}")
        self.assertEqual(self.advance(WARNTIME), [(A, "WARNED")])

    def test_forgotten(self) -> None:
        """A component that is forgotten meanwhile starts when it is back, and is not told dead."""
        self.beat(A)
        self.away(A, 100)
        self.tracker.forget(A)
        self.assertEqual(self.advance(50), [])
        self.assertEqual(self.beat(A), ["STARTED"])
        self.away(A, 100)
        self.tracker.forget(A)
        self.assertEqual(self.advance(200), [])
        self.assertEqual(self.tracker.phase(A), Phase.UNKNOWN)

    def test_restart(self) -> None:
        """After a restart it is waited for, for Warntime at least."""
        self.beat(A)
        self.away(A, 100)
        self.restart(95)
        self.tracker.restore([Record(A, 5.0, "", "", False)], [], self.observed.now(), 10, 30)
        self.assertEqual(self.advance(WARNTIME - 1), [])
        self.assertEqual(self.advance(1), [(A, "DIED")])

    def test_many(self) -> None:
        """Thousands that say so at once are written in few calls, and cost the sweep nothing."""
        names = [f"x{number}c0s0b0n0" for number in range(2000)]
        self.beat(*names)
        first: Deferred[None] = Deferred()
        self.store.hold = first
        saying = [
            Deferred.fromCoroutine(self.maintenances.away(name, 100 + n % 7 / 10, ""))
            for n, name in enumerate(names)
        ]
        first.callback(None)
        self.assertEqual([self.successResultOf(each) for each in saying], [True] * len(names))
        self.assertEqual([len(each) for each in self.store.written], [1, 500, 500, 500, 499])
        self.clock.advance(100)
        self.clock.advance(0.9)
        self.assertLess(len(self.tracker._cohorts()), 5)
        self.assertEqual(len(self.advance(1)), len(names))


@dataclass
class _Slow:
    """A slow and obvious account of who is in maintenance, and of who was heard."""

    sets: dict[str, tuple[set[str], float, bool]] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    judged_from: dict[str, float] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)

    def spared(self, name: str) -> bool:
        return any(name in names for names, _, _ in self.sets.values())

    def end(self, id: str, now: float) -> None:
        names, _, _ = self.sets.pop(id)
        for name in names:
            if not self.spared(name):
                self.judged_from[name] = now

    def pass_time(self, now: float) -> None:
        for id, (_, until, _) in list(self.sets.items()):
            if until <= now:
                self.end(id, now)
        for name, heard in self.heard.items():
            since = max(heard, self.judged_from.get(name, heard))
            if not self.spared(name) and now - since >= ERRTIME:
                self.dead.add(name)

    def beat(self, name: str, now: float) -> None:
        silent = now - self.heard.get(name, float("-inf"))
        if silent >= WARNTIME:
            for names, _, back in self.sets.values():
                if back:
                    names.discard(name)
        self.heard[name] = now
        self.judged_from.pop(name, None)
        self.dead.discard(name)


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "back", "end", "change", "beat", "beat", "pass"]),
        st.sets(st.sampled_from([A, B, C, D]), min_size=1),
        st.integers(1, 40),
    ),
    max_size=30,
)


class BruteForceTests(SynchronousTestCase):
    """Tests of overlapping maintenances against brute force."""

    @settings(max_examples=100, deadline=None)
    @given(_ACTIONS)
    def test_equal(self, actions: list[tuple[str, set[str], int]]) -> None:
        """Whatever is set, changed and ended, exactly those are dead whom brute force finds."""
        case = MaintenanceTestCase()
        case.setUp()
        slow = _Slow()
        for action, names, number in actions:
            now = case.clock.seconds()
            ids = sorted(slow.sets)
            if action in ("set", "back"):
                id = case.set(*names, back=action == "back", seconds=float(number))
                slow.sets[id] = set(names), now + number, action == "back"
            elif action == "end" and ids:
                if ids[number % len(ids)] in case.maintenances.in_force.entries:
                    case.end(ids[number % len(ids)])
                slow.end(ids[number % len(ids)], now)
            elif action == "change" and ids:
                id = ids[number % len(ids)]
                if id in case.maintenances.in_force.entries:
                    case.change(id, For=number)
                    slow.sets[id] = slow.sets[id][0], now + number, slow.sets[id][2]
            elif action == "beat":
                case.beat(*names)
                for name in names:
                    slow.beat(name, now)
            else:
                for _ in range(number):
                    case.advance(1)
                    slow.pass_time(case.clock.seconds())
            slow.pass_time(case.clock.seconds())
            self.assertEqual(set(case.tracker.dead_components()), slow.dead)
            for name in (A, B, C, D):
                self.assertEqual(case.tracker.is_spared(name), slow.spared(name))
