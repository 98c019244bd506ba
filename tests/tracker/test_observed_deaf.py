"""The observed clock while the heartbeats that other replicas take don't arrive."""

from hypothesis import given
from hypothesis import strategies as st

from hbtd.tracker.observed import TICK, ObservedClock
from tests.support.observed_memory import EPSILON, PATIENCE, ClockTestCase

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 20)),
        st.tuples(st.just("listen"), st.integers(1, 30).map(lambda n: n * TICK)),
        st.tuples(st.just("deafen"), st.floats(0, 3)),
        st.tuples(st.just("hear"), st.booleans()),
    ),
    max_size=30,
)


class DeafTests(ClockTestCase):
    """`deafen` and `hear`."""

    def test_not_counted(self):
        """Deaf time is not counted, however long it is."""
        self.listen(5.0)
        self.clock.deafen(0.0)
        self.assertClose(self.listen(100.0), 5.0)
        self.assertClose(self.clock.deaf_seconds, 100.0)
        self.clock.hear(patiently=False)
        self.assertClose(self.listen(2.0), 7.0)

    def test_unheard(self):
        """Time that was counted before deafness was noticed is made up for afterwards."""
        self.listen(5.0)
        self.clock.deafen(3.0)
        self.listen(10.0)
        self.clock.hear(patiently=False)
        self.assertClose(self.listen(3.0), 5.0)
        self.assertClose(self.listen(1.0), 6.0)

    def test_patiently(self):
        """After deafness of its own, the clock stands still for as long, up to `patience`."""
        for deaf, patience in ((4.0, 4.0), (60.0, PATIENCE)):
            self.begin()
            self.listen(5.0)
            self.clock.deafen(1.0)
            self.listen(deaf)
            self.clock.hear(patiently=True)
            self.assertClose(self.listen(patience), 5.0)
            self.assertClose(self.listen(1.0), 6.0)

    def test_again_and_again(self):
        """Calling either method twice changes nothing."""
        self.listen(5.0)
        self.clock.deafen(1.0)
        self.clock.deafen(50.0)
        self.listen(1.0)
        self.clock.hear(patiently=False)
        self.clock.hear(patiently=True)
        self.assertClose(self.listen(1.0), 5.0)
        self.assertClose(self.listen(1.0), 6.0)

    def test_owed_once(self):
        """Of two standstills that begin at the same time, the longer one remains."""
        self.listen(5.0)
        self.clock.deafen(3.0)
        self.clock.hear(patiently=False)
        self.listen(1.0)
        self.clock.deafen(3.0)
        self.clock.hear(patiently=False)
        self.assertClose(self.listen(3.0), 5.0)
        self.assertClose(self.listen(1.0), 6.0)

    @given(STEPS)
    def test_never_back(self, steps):
        """It never goes back, never runs faster than time, and never counts deaf time."""
        time = 0.0
        clock = ObservedClock(lambda: time, lambda: PATIENCE)
        deaf = False
        last = clock.now()
        for what, value in steps:
            before = clock.now()
            if what == "wait":
                time += value
            elif what == "listen":
                for _ in range(round(value / TICK)):
                    time += TICK
                    clock.tick()
                    self.assertGreaterEqual(clock.now(), last - EPSILON)
                    last = clock.now()
            elif what == "deafen":
                clock.deafen(value)
                deaf = True
            else:
                clock.hear(patiently=value)
                deaf = False
            self.assertGreaterEqual(clock.now(), last - EPSILON)
            last = clock.now()
            if deaf and what != "deafen":
                self.assertEqual(last, before)
        self.assertLessEqual(last, time + EPSILON)
