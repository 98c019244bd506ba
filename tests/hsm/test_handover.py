"""The notifier when the leadership passes from one replica to another."""

import tracemalloc
from typing import Any

from twisted.logger import capturedLogs

from hbtd.hsm.notifier import Notifier
from hbtd.simulator.hsm_table import ComponentState
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
    """`drop_all`, `resume` and `may_send`."""

    def begin(self, **params: Any) -> None:
        """Begin with a notifier that may send while `self.may` is true."""
        super().begin(**params)
        self.notifier.stopService()
        self.may = True
        self.notifier = Notifier(
            self.clock, self.client, self.params, self._delivered, lambda: 0.125, lambda: self.may
        )
        self.notifier.startService()
        self.advance(1)

    def test_may_not_send(self):
        """While it may not send, judgements wait."""
        self.may = False
        self.tell(STARTED, A)
        self.advance(60)
        self.assertEqual((self.sent(), self.notifier.pending_count), ([], 1))
        self.may = True
        self.advance(6)
        self.assertEqual(self.sent(), [(STARTED, [A])])

    def test_drop_all(self):
        """Judgements that waited are not sent any more; later ones are."""
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
        """An update in flight is abandoned, and not sent again."""
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

    def test_abandoned_is_no_failure(self):
        """An update that the notifier abandons does not count as a failure of HSM."""
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

    def test_rejected_and_dropped(self):
        """Rejections are forgotten."""
        self.hsm.behaviour.refuse = {A}
        self.tell(WARNED, A)
        self.advance(5)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.notifier.drop_all()
        self.assertEqual(self.notifier.set_aside_count, 0)

    def test_resume(self):
        """Resumed judgements are sent; a different one that follows is sent again later."""
        self.notifier.resume([*judge(WARNED, A), *judge(DIED, B)])
        self.advance(1)
        self.tell(DIED, A)
        self.advance(1)
        self.assertCountEqual(self.sent(), [(WARNED, [A]), (DIED, [B]), (DIED, [A])])
        self.advance(4 * self.params.current.sm_timeout)
        self.assertEqual(self.hsm.components[A].state, "Standby")

    def test_resume_overtaken(self):
        """What is resumed is sent again after any other update that HSM may have had before."""
        self.notifier.resume(judge(STARTED, A))
        self.advance(1)
        self.assertEqual((self.hsm.components[A].state, self.acknowledged), ("Ready", []))
        self.hsm.components[A] = ComponentState("Ready", "Warning", "late")
        self.advance(40)
        self.assertEqual(self.hsm.components[A].flag, "OK")
        self.assertEqual(self.acknowledged, judge(STARTED, A))

    def test_memory(self):
        """A judgement that is resumed takes two places in dicts: a million may be."""
        self.may = False
        resumed = judge(WARNED, *nodes(20_000))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.notifier.resume(resumed)
        self.assertEqual(self.notifier.pending_count, 20_000)
        self.assertLess(tracemalloc.get_traced_memory()[0] / len(resumed), 50)

    def test_resume_and_news_at_once(self):
        """What the former leader may still send is corrected: the newer judgement is sent twice."""
        self.hsm.behaviour.ready = False
        self.advance(6)
        self.notifier.resume(judge(WARNED, A))
        self.tell(DIED, A)
        self.hsm.behaviour.ready = True
        self.advance(10)
        self.assertEqual(self.sent(), [(DIED, [A])])
        self.advance(4 * self.params.current.sm_timeout)
        self.assertEqual(self.sent(), [(DIED, [A]), (DIED, [A])])
