"""How long it takes until HSM is told of a judgement."""

import time

from tests.support.hsm_memory import DIED, STARTED, StartedTestCase, judge, nodes

A, B = nodes(2)


class TimeToTellTests(StartedTestCase):
    """What is measured while judgements are sent to HSM."""

    def begin(self, **params: object) -> None:
        """Begin with a short timeout and many retries."""
        super().begin(sm_timeout=2, sm_retries=5, **params)

    def measured(self) -> list[int]:
        """Return how many judgements were measured, by transition."""
        return [each.count for each in self.notifier.time_to_tell.durations.values()]

    def test_measured(self) -> None:
        """The time is that from the judgement to HSM's acknowledgement, for each transition."""
        at = time.time() - 40
        self.notifier.tell([each.made_at(at) for each in judge(DIED, A, B)])
        self.advance(1)
        self.assertEqual(self.measured(), [0, 0, 0, 2])
        durations = self.notifier.time_to_tell.durations[DIED]
        self.assertTrue(40 <= durations.longest < 100, durations.longest)

    def test_unknown_time(self) -> None:
        """A judgement of an earlier release, which has no time, is not measured."""
        self.tell(DIED, A)
        self.advance(1)
        self.assertEqual(self.measured(), [0, 0, 0, 0])

    def test_not_acknowledged(self) -> None:
        """While HSM fails, nothing is measured; the failures count as soon as it works."""
        self.hsm.behaviour.fail_status = 500
        self.notifier.tell([each.made_at(time.time()) for each in judge(STARTED, A)])
        self.advance(1)
        self.assertEqual(self.measured(), [0, 0, 0, 0])
        self.hsm.behaviour.fail_status = None
        self.advance(30)
        self.assertEqual(self.measured(), [1, 0, 0, 0])

    def test_repeated(self) -> None:
        """What is sent again because of an abandoned update is measured once, the first time."""
        self.hsm.behaviour.hang = True
        self.tell(DIED, A)
        self.advance(2.1)
        self.hsm.behaviour.hang = False
        self.notifier.tell([each.made_at(time.time()) for each in judge(STARTED, A)])
        self.advance(60)
        told = [update.names for update in self.hsm.updates if update.state == "Ready"]
        self.assertEqual(told, [[A], [A]])
        self.assertEqual(self.measured(), [1, 0, 0, 0])

    def test_repeat_replaced(self) -> None:
        """Nothing is kept about a repeat once HSM has acknowledged a later judgement instead."""
        told = self.notifier.time_to_tell
        ((first,), (later,)) = judge(STARTED, A), judge(DIED, A)
        told.repeated(first)
        told.acknowledged([later.made_at(time.time())])
        self.assertEqual((self.measured(), told._repeats), ([0, 0, 0, 1], {}))

    def test_repeat_withdrawn(self) -> None:
        """Nothing is kept about the repeat of an alarm on a component that was forgotten since."""
        self.hsm.behaviour.hang = True
        self.tell(STARTED, A)
        self.advance(2.1)
        self.hsm.behaviour.hang = False
        self.tell(DIED, A)
        self.advance_until(lambda: self.sent()[-1:] == [(DIED, [A])], 60)
        self.hsm.behaviour.hang = True
        told = self.notifier.time_to_tell
        self.advance_until(lambda: told._repeats, 60)
        self.notifier.withdraw(A)
        self.assertEqual(told._repeats, {})
