"""A mass death while HSM is slow: the delay of HSM updates, and the latency of heartbeats.

Run as `python -m benchmarks.storm NODES` it prints its figures as JSON.
"""

import json
import subprocess
import sys
from random import Random
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.web.client import Agent

from benchmarks.running import LOAD_CORE, fake_hsm, hbtd, on_core
from benchmarks.table import Row
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fleet import Fleet, node_names

_COST_MS = 2.0
_SM_TIMEOUT = 10
_DYING_WITHIN = 3.0
_SURVIVORS = 500


def measure(nodes: int) -> list[Row]:
    """Measure a storm of `nodes` deaths, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.storm", str(nodes)]
    done = subprocess.run(
        on_core(LOAD_CORE, command), capture_output=True, text=True, timeout=300, check=True
    )
    figures = json.loads(done.stdout)
    needed = nodes * _COST_MS / 1000
    return [
        Row(
            f"storm: {nodes:,} deaths within {_DYING_WITHIN:.0f} s, HSM needs {needed:.0f} s:"
            " HSM knows all",
            f"{figures['knew']:.1f} s after the last is due ({figures['knew'] / needed:.2f} x)",
            f"<= {1.25 * needed:.0f} s (1.25 x)",
        ),
        Row("storm: longest PATCH", f"{figures['longest']:.2f} s", f"<= {_SM_TIMEOUT} s"),
        Row("storm: PATCHes", f"{figures['patches']}, {figures['abandoned']} given up"),
        Row(
            f"storm: p99 of {figures['answered']:,} heartbeats answered meanwhile",
            f"{figures['p99'] * 1e3:.1f} ms, {figures['failed']} failed",
            "< 50 ms",
        ),
    ]


async def _storm(reactor: Any, url: str, hsm_url: str, nodes: int) -> dict[str, float]:
    http = HTTPClient(Agent(reactor))
    control = hsm_url.partition("/hsm")[0] + "/control/updates"

    async def updates() -> list[dict[str, Any]]:
        response = await http.get(control, reactor=reactor)
        found: list[dict[str, Any]] = await response.json()
        return found

    names = node_names(nodes + _SURVIVORS)
    endpoint = client_endpoint(reactor, url)
    survivors = Fleet(reactor, endpoint, url, names[nodes:], random=Random(1), period=1.5)
    dying = Fleet(
        reactor, endpoint, url, names[:nodes], random=Random(2), period=_DYING_WITHIN, jitter=0
    )
    dying.startService()
    # Three periods, so that every node is heard; the last heartbeats are spread over one.
    await deferLater(reactor, 3 * _DYING_WITHIN)
    await dying.stopService()
    last_due = reactor.seconds() + 12.0
    survivors.startService()
    dead: dict[str, float] = {}
    deadline = reactor.seconds() + 12 + nodes * _COST_MS / 1000 * 3
    while len(dead) < nodes and reactor.seconds() < deadline:
        await deferLater(reactor, 0.5)
        received = await updates()
        for update in received:
            if update["state"] == "Standby" and update["applied"] is not None:
                for name in update["names"]:
                    dead.setdefault(name, update["applied"])
    await survivors.stopService()
    statistics = survivors.statistics
    if len(dead) < nodes:
        raise RuntimeError(f"HSM knows only {len(dead)} of {nodes} dead")
    answered = [update for update in received if update["answered"] is not None]
    return {
        "knew": max(dead.values()) - last_due,
        "longest": max(update["answered"] - update["received"] for update in answered),
        "patches": len(received),
        "abandoned": len(received) - len(answered),
        "answered": statistics.answered,
        "failed": statistics.failed,
        "p99": statistics.latency().p99,
    }


def _main(reactor: Any, nodes: str) -> Deferred[None]:
    async def run() -> None:
        with (
            fake_hsm(f"--cost_ms={_COST_MS}") as hsm_url,
            hbtd(
                "--listen=tcp:0:interface=127.0.0.1",
                f"--sm_url={hsm_url}",
                f"--sm_timeout={_SM_TIMEOUT}",
                "--warntime=8",
                "--errtime=12",
                "--interval=1",
            ) as url,
        ):
            print(json.dumps(await _storm(reactor, url, hsm_url, int(nodes))))

    return Deferred.fromCoroutine(run())


if __name__ == "__main__":
    react(_main, sys.argv[1:])
