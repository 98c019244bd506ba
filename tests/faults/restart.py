"""hbtd restarted under load, with a socket that systemd would hold: nobody is refused.

Twenty thousand nodes send heartbeats over kept connections, a thousand more over fresh ones, while
hbtd is stopped and killed, and started again. `HBTD_RESTART_RATE` sets how many heartbeats a second
the nodes send over kept connections. What clients saw is printed.
"""

import json
import os
import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import node_names
from tests.support.certificates import make_identity, write_identity
from tests.support.load_generator import Generator
from tests.support.processes import HbtdProcess
from tests.support.running import reactor, start_hsm, until
from tests.support.service_manager import ServiceManager
from tests.support.steady_load import Load

RATE = int(os.environ.get("HBTD_RESTART_RATE", "20000"))

INTERVAL = 1

SLACK = 1.5
"""Seconds for a judgement to be stored and to reach HSM, and for a busy machine."""

INSTANT = 0.005
"""Seconds from when a client looks whether hbtd has closed a connection until it has sent."""

BACKLOG = 4096


DEAD = "Heartbeat stopped -- declared dead"


class RestartTests(TestCase):
    """Restarts under load."""

    timeout = 240

    def setUp(self) -> None:
        """Bind the port, as systemd does for a socket unit, and make a node stop on demand."""
        self.listening = socket.create_server(
            ("::", 0), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
        )
        self.addCleanup(self.listening.close)
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.told: dict[str, dict[str, float]] = {}
        self.false: list[tuple[str, str]] = []
        self.stopped: dict[str, float] = {}
        self.hsm = start_hsm(self, on_update=self.note)

    def note(self, update: Update) -> None:
        """Note what HSM is told, other than starts."""
        if "stopped" not in update.message:
            return
        for name in update.names:
            if name in self.stopped:
                self.told.setdefault(name, {}).setdefault(update.message, reactor.seconds())
            else:
                self.false.append((name, update.message))

    def start(self, *options: str) -> HbtdProcess:
        """Start hbtd on the socket."""
        return ServiceManager(self).start(
            *("-m", "hbtd", "--use_telemetry=no", f"--interval={INTERVAL}"),
            *(f"--kv_url=sqlite:{self.directory}/hbtd.sqlite", f"--sm_url={self.hsm.url}"),
            *options,
            passed=self.listening,
        )

    async def test_plain(self) -> None:
        """Over plain HTTP no connection is refused, and nobody is judged wrongly or late."""
        load = Load(False, 20_000, 10_000, RATE, 1_000, 1_000)
        await self.restart(load, (5, 7), ("SIGTERM", "SIGKILL"), "--tls=no")

    async def test_tls(self) -> None:
        """The same over TLS, with half the rate and fewer connections, for which both ends work."""
        load = Load(True, 10_000, 2_000, RATE / 2, 500, 200)
        await self.restart(load, (7, 9), ("SIGTERM", "SIGKILL"), *self.certificate())

    async def test_quiet(self) -> None:
        """Connections that are idle when hbtd stops, nearly all of them, keep it for no second."""
        load = Load(True, 2_000, 2_000, 1_000, 200, 100)
        await self.restart(load, (5, 7), ("SIGTERM",), *self.certificate())

    def certificate(self) -> list[str]:
        """Make a certificate; return the options with which it is served."""
        certificate, key = write_identity(make_identity("localhost"), self.directory)
        return [f"--tls_cert={certificate}", f"--tls_key={key}"]

    async def restart(
        self, load: Load, times: tuple[int, int], signals: Sequence[str], *options: str
    ) -> None:
        """End hbtd by each of the signals under load, and start it again; check what was seen.

        `times` are `Warntime` and `Errtime`. The first signal is SIGTERM.
        """
        warntime, errtime = times
        options = (*options, f"--warntime={warntime}", f"--errtime={errtime}")
        process = self.start(*options)
        await process.url
        port = self.listening.getsockname()[1]
        generator = Generator(self, port, load)
        await deferLater(reactor, 3)
        seen = await generator.counts()
        skip_if_held_up(seen)
        before = seen["kept"]["outcomes"]["answered"] + seen["fresh"]["outcomes"]["answered"]
        print(f"\n      {before / seen['seconds']:.0f} heartbeats answered a second before")
        # Of those with fresh connections, as nobody else has the address of one of these.
        victims = node_names(load.components + len(signals))[load.components :]
        if before / seen["seconds"] < (load.rate + load.fresh_rate) / 2:
            raise SkipTest("this machine is too busy: not half of the heartbeats were answered")
        for how, victim in zip(signals, victims, strict=True):
            self.stopped[victim] = reactor.seconds()
            generator.stop(victim)
            await deferLater(reactor, 0.3)
            began = reactor.seconds()
            process.signal(signal.Signals[how])
            await process.ended
            ended = reactor.seconds()
            process = self.start(*options)
            await process.url
            seconds = reactor.seconds() - began
            print(f"      {how}: ended after {ended - began:.2f} s,", end="")
            print(f" served after {seconds:.2f} s")
            told = self.told.setdefault(victim, {})
            await until(partial(told.__contains__, DEAD), errtime + INTERVAL + 10)
            seen = await generator.counts()
            for kind in ("kept", "fresh"):
                print(f"      {kind}: {json.dumps(seen[kind])}")
                self.assertEqual(seen[kind]["outcomes"].get("refused", 0), 0)
            skip_if_held_up(seen)
            late = told[DEAD] - self.stopped[victim] - errtime
            print(f"      dead {late:.1f} s after Errtime")
            self.assertEqual(self.false, [])
            self.assertGreaterEqual(late, -1)
            self.assertLessEqual(late, INTERVAL + seconds + SLACK)
            if how == "SIGTERM":
                self.assert_in_order(seen["kept"]["outcomes"], load.rate)
                self.assert_in_order(seen["fresh"]["outcomes"], load.fresh_rate)

    def assert_in_order(self, outcomes: dict[str, int], rate: float) -> None:
        """Check what clients saw of an hbtd that stopped in order; `rate` is their heartbeats'."""
        self.assertEqual(outcomes.get("reset", 0), 0)
        # Sent in the instant in which hbtd closes the connection, which can't be avoided.
        self.assertLess(outcomes.get("unanswered", 0), max(rate * INSTANT, 1))
        self.assertEqual(set(outcomes) - {"answered", "unanswered", "still waiting"}, set())


def skip_if_held_up(seen: dict[str, Any]) -> None:
    """Skip the rest of the test if the load was not as steady as it should be."""
    held_up = seen["held_up"]
    if held_up > 1:
        raise SkipTest(f"this machine is too busy: no heartbeat was sent for {held_up:.1f} s")
