"""The notifier when telling HSM passes from one replica to another."""

from typing import Any

from twisted.logger import capturedLogs

from hbtd.hsm.notifier import Notifier
from tests.support.hsm_memory import (
    DIED,
    OTHER_URL,
    STARTED,
    WARNED,
    StartedTestCase,
    judge,
    lines,
    nodes,
)

A, B, C = nodes(3)


class HandoverTests(StartedTestCase):
    """`drop_all`, `resume`, and being allowed to tell."""

    def begin(self, **params: Any) -> None:
        """Have a notifier that may tell for as long as the test lets it."""
        super().begin(**params)
        self.notifier.stopService()
        self.may = True
        self.notifier = Notifier(
            self.clock, self.client, self.params, self._delivered, lambda: 0.125, lambda: self.may
        )
        self.notifier.startService()
        self.advance(1)

    def test_may_not_tell(self):
        """Nothing is said while it is not for us to say; what there is waits."""
        self.may = False
        self.tell(STARTED, A)
        self.advance(60)
        self.assertEqual((self.sent(), self.notifier.pending_count), ([], 1))
        self.may = True
        self.advance(6)
        self.assertEqual(self.sent(), [(STARTED, [A])])

    def test_drop_all(self):
        """What waited is said no more, and what comes next is."""
        self.hsm.behaviour.ready = False
        self.advance(6)
        self.tell(DIED, A)
        self.notifier.drop_all()
        self.assertEqual(self.notifier.pending_count, 0)
        self.hsm.behaviour.ready = True
        self.tell(STARTED, B)
        self.advance(30)
        self.assertEqual(self.sent(), [(STARTED, [B])])

    def test_drop_all_in_the_middle(self):
        """What is being said is given up, and not said again."""
        self.hsm.behaviour.cost_ms = 3000.0
        self.tell(WARNED, A)
        self.advance(1)
        self.notifier.drop_all()
        self.advance(60)
        self.assertEqual(len(self.hsm.updates), 1)
        self.assertEqual(self.acknowledged, [])
        self.tell(DIED, A)
        self.advance(60)
        self.assertEqual(self.sent()[:2], [(WARNED, [A]), (DIED, [A])])
        self.assertEqual(self.acknowledged[0], judge(DIED, A)[0])

    def test_given_up_is_no_failure(self):
        """That we give up on what is being said is not held against HSM, whatever the reason."""
        for give_up in (
            lambda: self.notifier.drop_all(),
            lambda: self.change(sm_url=OTHER_URL),
        ):
            self.begin(sm_retries=0, sm_timeout=1)
            self.hsm.behaviour.cost_ms = 3000.0
            self.tell(WARNED, A)
            self.advance(0.2)
            with capturedLogs() as events:
                give_up()
                self.advance(0.5)
            self.assertEqual(lines(events, "warn"), [])
            self.assertEqual(self.notifier.failed_count, 0)
            self.assertTrue(self.notifier.hsm_ready)

    def test_refused_and_dropped(self):
        """Whom HSM refused is not remembered for it."""
        self.hsm.behaviour.refuse = {A}
        self.tell(WARNED, A)
        self.advance(5)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.notifier.drop_all()
        self.assertEqual(self.notifier.set_aside_count, 0)

    def test_resume(self):
        """What is resumed is told; if something else follows, that is told again later."""
        self.notifier.resume([*judge(WARNED, A), *judge(DIED, B)])
        self.advance(1)
        self.tell(DIED, A)
        self.advance(1)
        self.assertCountEqual(self.sent(), [(WARNED, [A]), (DIED, [B]), (DIED, [A])])
        self.advance(4 * self.params.current.sm_timeout)
        self.assertEqual(self.hsm.components[A].state, "Standby")

    def test_resume_and_news_at_once(self):
        """What the one before us may still be saying is undone by saying the news again."""
        self.hsm.behaviour.ready = False
        self.advance(6)
        self.notifier.resume(judge(WARNED, A))
        self.tell(DIED, A)
        self.hsm.behaviour.ready = True
        self.advance(10)
        self.assertEqual(self.sent(), [(DIED, [A])])
        self.advance(4 * self.params.current.sm_timeout)
        self.assertEqual(self.sent(), [(DIED, [A]), (DIED, [A])])
