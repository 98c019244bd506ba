"""For how long a replica has led and heard components."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.listening import ListeningTime


class ListeningTimeTests(SynchronousTestCase):
    """A replica has listened once it has led, and heard, for Errtime."""

    def setUp(self):
        self.time = ListeningTime()
        self.clock, self.observed = 100.0, 5.0

    def lacks(self, seconds: float, deaf: float = 0.0, *, leading: bool = True) -> float:
        """Let time pass, at first some in which the replica is deaf; return what is missing."""
        self.clock += deaf
        for _ in range(int(seconds)):
            self.clock += 1
            self.observed += 1
            self.time.lacks(self.clock, self.observed, leading, 30)
        return self.time.lacks(self.clock, self.observed, leading, 30)

    def test_leader(self):
        """Errtime after it has begun to lead, a replica lacks nothing."""
        self.assertEqual(self.lacks(3, leading=False), 30)
        self.assertEqual(self.lacks(0), 30)
        self.assertEqual(self.lacks(29), 1)
        self.assertEqual(self.lacks(2), 0)
        self.assertEqual(self.lacks(0, leading=False), 30)
        self.assertEqual(self.lacks(1), 30)

    def test_suspended(self):
        """Who was suspended begins anew."""
        self.lacks(40)
        self.assertEqual(self.lacks(0, deaf=3600), 30)
        self.assertEqual(self.lacks(31), 0)

    def test_deaf(self):
        """So does who was deaf for a second, bit by bit."""
        self.lacks(40)
        self.assertEqual(self.lacks(1, deaf=0.6), 0)
        self.assertEqual(self.lacks(1, deaf=0.6), 30)

    def test_seldom(self):
        """Who is deaf for less within Errtime lacks nothing, however often."""
        self.lacks(40)
        self.assertEqual([self.lacks(31, deaf=0.9) for _ in range(5)], [0] * 5)
