"""hbtd-smoke against hbtd itself: nothing is judged, told or left behind but a start."""

import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.smoke.main import run
from tests.support.certificates import make_identity, write_identity
from tests.support.hbtd_stand_in import StandIn, serve
from tests.support.processes import CHECKOUT, spawn
from tests.support.running import NODE, Hbtd, reactor, start_hbtd, start_hsm, until

NAME = "x9999c0s0b0n0"
FAST = {"warntime": 2, "errtime": 3, "interval": 1}


class LiveTests(TestCase):
    """The whole command against a whole hbtd, on real sockets."""

    timeout = 240

    async def smoke(self, url: str, *words: str, **environ: str) -> int:
        """Run it, in a thread; the outputs are in `self.out` and `self.err` afterwards."""
        out, err = StringIO(), StringIO()
        arguments = ("--url", url, "--ca", "insecure", *words)
        status = await deferToThread(run, arguments, environ, out, err)
        self.out, self.err = out.getvalue(), err.getvalue()
        return status

    def start_with_hsm(self, **params: Any) -> tuple[Hbtd, Any]:
        """Start an hbtd, and its HSM."""
        hsm = start_hsm(self)
        hbtd = start_hbtd(self, nosm=False, sm_url=hsm.url, **{**FAST, **params})
        return hbtd, hsm

    async def transitions(self, hbtd: Hbtd) -> list[str]:
        """Return what the log has of the component."""
        _, answer = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/history?names={NAME}")
        return [entry["Transition"] for entry in answer["Entries"]]

    async def assert_only_started(self, hbtd: Hbtd, times: int) -> None:
        """Check that the component has started so often, and was never judged silent."""
        found: list[str] = []
        for _ in range(200):  # a transition is in the log a moment later
            found = await self.transitions(hbtd)
            if len(found) >= times:
                break
            await deferLater(reactor, 0.05)
        self.assertEqual(found, ["started"] * times)

    async def test_there_and_back(self) -> None:
        """HSM shows the start; then hbtd knows it no more, and never declares it dead."""
        hbtd, hsm = self.start_with_hsm()
        health = {"HsmStatus": ""}
        while health["HsmStatus"] != "Ready":
            _, health = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/health")
        status = await self.smoke(
            hbtd.url, "--xname", NAME.upper(), "--hsm-url", hsm.url, "--timeout", "10"
        )
        self.assertEqual(status, 0, self.out)
        self.assertNotIn("not ok", self.out)
        self.assertIn("1..17", self.out)
        self.assertEqual(_tracked(hbtd), 0)
        await deferLater(reactor, FAST["errtime"] + 2 * FAST["interval"])
        await self.assert_only_started(hbtd, 1)
        self.assertEqual([(u.names, u.state) for u in hsm.hsm.updates], [([NAME], "Ready")])

    async def test_twice(self) -> None:
        """A second run at once takes until it may be forgotten again; nobody is warned about it."""
        hbtd = start_hbtd(self, **FAST)
        for _ in range(2):
            self.assertEqual(await self.smoke(hbtd.url, "--xname", NAME), 0, self.out)
            self.assertEqual(_tracked(hbtd), 0)
        await self.assert_only_started(hbtd, 2)

    async def test_a_node_that_beats(self) -> None:
        """A name that a node has is refused, and its record stays as it was."""
        hbtd = start_hbtd(self, **FAST)
        await hbtd.beat(NODE, "2026-11-23T01:02:03Z")
        self.assertEqual(await self.smoke(hbtd.url, "--xname", NODE), 1, self.out)
        self.assertIn(f"{NODE} is healthy, last heard", self.out)
        url = f"{hbtd.url}/hmi/v1/components/{NODE}"
        _, found = await hbtd.client.request("GET", url)
        self.assertEqual((found["State"], found["Timestamp"]), ("healthy", "2026-11-23T01:02:03Z"))
        await until(lambda: hbtd.service.tracker.dead)
        self.assertEqual(await self.smoke(hbtd.url, "--xname", NODE), 1, self.out)
        _, found = await hbtd.client.request("GET", url)
        self.assertEqual(found["State"], "dead")

    async def test_no_operator(self) -> None:
        """Without a token, where one is needed, nothing is sent: status 4. With it all is well."""
        tokens = Path(self.mktemp()).resolve()
        tokens.write_text("smoke:0123456789abcdef\n")
        tokens.chmod(0o600)
        hbtd = start_hbtd(self, operator_access=f"token:{tokens}", **FAST)
        self.assertEqual(await self.smoke(hbtd.url, "--xname", NAME), 4, self.out)
        self.assertIn("--token-file gives a token", self.out)
        self.assertEqual(await self.transitions(hbtd), [])
        status = await self.smoke(hbtd.url, "--xname", NAME, HBTCTL_TOKEN_FILE=str(tokens))
        self.assertEqual(status, 0, self.out)

    async def test_untrusted(self) -> None:
        """A certificate that is not trusted, and one that is."""
        cert, key = write_identity(make_identity("localhost", days=60), Path(self.mktemp()))
        hbtd = start_hbtd(self, tls_cert=str(cert), tls_key=str(key))
        self.assertEqual(await self.smoke(hbtd.url, "--ca", "system"), 3)
        self.assertIn("its certificate is not trusted", self.out)
        self.assertEqual(await self.smoke(hbtd.url, "--ca", str(cert)), 0, self.out)

    async def test_proxies(self) -> None:
        """Proxies in the environment are not used."""
        hbtd = start_hbtd(self, tls=False)
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        status, said = await deferToThread(
            _process,
            "--url",
            hbtd.url,
            "--xname",
            NAME,
            **dict.fromkeys(names, "http://127.0.0.1:1"),
        )
        self.assertEqual(status, 0, said)

    async def test_terminated(self) -> None:
        """SIGTERM while it beats: the component is forgotten before the process ends."""
        hbtd, _ = self.start_with_hsm()
        hsm, url = serve(self)
        _shows(hsm, "Off")
        arguments = (
            "--url",
            hbtd.url,
            "--ca",
            "insecure",
            "--xname",
            NAME,
            "--hsm-url",
            f"{url}/hmi/v1",
        )
        for number in (signal.SIGTERM, signal.SIGHUP):
            process = spawn(self, ["-m", "hbtd.smoke", *arguments, "--timeout", "60"])
            process.url.addErrback(lambda failure: None)
            await until(lambda: _tracked(hbtd) and hsm.asked)
            await deferLater(reactor, 2 * FAST["errtime"])  # it is kept alive meanwhile
            self.assertEqual(hbtd.service.tracker.healthy, 1)
            process.signal(number)
            self.assertEqual(await process.ended, 128 + number, process.said)
            self.assertEqual(_tracked(hbtd), 0)
            self.assertIn("is forgotten", process.said)
            hsm.asked.clear()
        await self.assert_only_started(hbtd, 2)

    async def test_reader_gone(self) -> None:
        """With its output piped into a command that stops reading, nothing is left behind."""
        hbtd = start_hbtd(self, tls=False, **FAST)
        command = [sys.executable, "-m", "hbtd.smoke", "--url", hbtd.url, "--xname", NAME]
        line = f"{' '.join(command)} | head -1"
        done = await deferToThread(
            subprocess.run, line, shell=True, cwd=CHECKOUT, capture_output=True, timeout=60
        )
        self.assertEqual((done.stdout, done.stderr), (b"TAP version 14\n", b""))
        await self.assert_only_started(hbtd, 1)
        self.assertEqual(_tracked(hbtd), 0)


def _tracked(hbtd: Hbtd) -> int:
    """Return how many components hbtd tracks."""
    tracker = hbtd.service.tracker
    return tracker.healthy + tracker.warned + tracker.dead


def _shows(hsm: StandIn, state: str) -> None:
    """Have an HSM show the component in a state."""
    answer = {"ID": NAME, "State": state, "Flag": "OK"}
    hsm.replies[f"/State/Components/{NAME}"] = (200, {}, answer)


def _process(*words: str, **environ: str) -> tuple[int, str]:
    """Run hbtd-smoke as a process; return its status, and what it has said."""
    done = subprocess.run(
        [sys.executable, "-m", "hbtd.smoke", *words],
        cwd=CHECKOUT, env={"PATH": os.environ["PATH"], **environ},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
