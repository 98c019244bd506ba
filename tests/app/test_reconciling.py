"""HSM's table is compared by a real hbtd with a fake HSM, each on its port."""

import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import LoopingCall
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from hbtd.simulator.hsm_table import ComponentState
from tests.support.running import start_hbtd, start_hsm, until

reactor: Any = _reactor

NODES = [f"x0c0s0b0n{number}" for number in range(4)]


class ReconcilingTests(TestCase):
    """A table that somebody else has falsified."""

    timeout = 120

    async def test_reconcile(self):
        """`hbtctl reconcile` has it put right, and says what was wrong."""
        running = start_hsm(self)
        hbtd = start_hbtd(self, nosm=False, sm_url=running.url, sm_sync=0, tls=False)
        rows = running.hsm.components

        async def beat() -> None:
            for name in NODES:
                await hbtd.beat(name)

        beating = LoopingCall(beat)
        ended = beating.start(1.0)
        await until(lambda: len(rows) == len(NODES))
        rows[NODES[0]] = ComponentState("Off", "OK")
        rows[NODES[1]] = ComponentState("Standby", "Alert")
        del rows[NODES[2]]
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            ("-m", "hbtd.ctl", "--url", hbtd.url, "reconcile"),
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        self.assertEqual((status, err), (0, b""))
        self.assertEqual(
            out.decode().splitlines(),
            [
                "HSM's table has 3 rows; wrong: 2",
                "2 to be told again once heard twice: x0c0s0b0n[0-1]",
                "1 heard, but not in HSM's table: x0c0s0b0n2",
            ],
        )
        await until(lambda: {rows[name].state for name in NODES if name in rows} == {"Ready"})
        beating.stop()
        await ended
