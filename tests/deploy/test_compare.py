"""A shadow run: what `deploy/shadow/` compares and mirrors, with the original's stand-in."""

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from unittest import skipUnless

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from hbtd.simulator.fleet import node_names
from hbtd.tracker.transitions import Transition
from tests.support.certificates import make_identity, write_identity
from tests.support.etcd_memory import MemoryEtcd
from tests.support.original_hbtd import OriginalHbtd
from tests.support.original_http import OriginalAPI
from tests.support.processes import CHECKOUT
from tests.support.running import WebClient, heartbeat, reactor, start_hbtd, start_hsm, until
from tests.support.server_process import free_ports

SHADOW = CHECKOUT / "deploy" / "shadow"


class ShadowTestCase(TestCase):
    """The original, which tells HSM, and beside it an hbtd that tells nobody."""

    timeout = 120
    times: Mapping[str, int] = {"warntime": 2, "errtime": 4, "interval": 1}
    """The parameters of both."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Start both."""
        etcd = MemoryEtcd(reactor.seconds)
        self.hsm = start_hsm(self)
        self.client = WebClient(self)
        self.original = OriginalHbtd(
            etcd.client(reactor), reactor, time.time, self.tell, 1, **self.times
        )
        site = Site(OriginalAPI(self.original).resource(), timeout=5)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(until, lambda: not self.original.busy)
        self.addCleanup(self.original.kill)
        self.addCleanup(port.stopListening)
        self.original_port = port.getHost().port
        self.original_url = f"http://127.0.0.1:{self.original_port}"
        self.shadow = start_hbtd(self, tls=False, sm_url=self.hsm.url, **self.times)
        self.shadow_url = self.shadow.url.replace("localhost", "127.0.0.1")
        await self.original.start()

    def tell(self, transition: Transition, names: list[str]) -> None:
        """Tell HSM what the original has judged."""
        update = {
            "ComponentIDs": names,
            "State": transition.state,
            "Flag": transition.flag,
            "ExtendedInfo": {"ID": "", "Message": transition.message, "Flag": ""},
        }
        path = f"{self.hsm.url}/State/Components/BulkStateData"
        telling = Deferred.fromCoroutine(self.client.request("PATCH", path, update))
        telling.addErrback(lambda failure: None)

    async def beat(self, name: str, *urls: str) -> None:
        """Send a heartbeat to each of the URLs."""
        for url in urls:
            path = f"{url}/hmi/v1/heartbeat"
            status, _ = await self.client.request("POST", path, heartbeat(name))
            self.assertEqual(status, 200)

    def keep_beating(self, beats: Mapping[str, tuple[str, ...]]) -> LoopingCall:
        """Send heartbeats of each name to its URLs, until the test ends."""

        async def beat() -> None:
            for name, urls in list(beats.items()):
                await self.beat(name, *urls)

        call = LoopingCall(lambda: Deferred.fromCoroutine(beat()))
        call.clock = reactor
        running = call.start(0.5)

        def stop() -> Deferred[Any]:
            call.stop()
            return running

        self.addCleanup(stop)
        return call


class CompareCase(ShadowTestCase):
    """The original, hbtd beside it, and compare.py."""

    async def compare(self, *options: str) -> tuple[list[str], int]:
        """Run it; return the lines that it has printed, without times, and its exit status."""
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            [str(SHADOW / "compare.py"), *options],
            {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        )
        lines = [line.partition(" ")[2] for line in out.decode().splitlines()]
        return lines or [err.decode()], status


class CompareTests(CompareCase):
    """compare.py and what both say of heartbeats."""

    async def test_the_same(self) -> None:
        """Nothing is reported of nodes that both hear, while one of them dies and one starts."""
        both = (self.original_url, self.shadow_url)
        steady, doomed, late = node_names(3)
        beats = {steady: both, doomed: both}
        self.keep_beating(beats)
        await until(lambda: len(self.hsm.hsm.components) == 2)
        comparing = Deferred.fromCoroutine(
            self.compare(
                *("--seconds=14", "--every=0.3", "--settle=8", f"--hsm={self.hsm.url}", *both)
            )
        )
        del beats[doomed]
        await deferLater(reactor, 1)
        beats[late] = both
        lines, status = await comparing
        self.assertEqual(self.hsm.hsm.components[doomed].state, "Standby")
        self.assertEqual((status, len(lines)), (0, 1), lines)
        self.assertRegex(lines[0], r"^compared \d+ times, 3 components: 0 differed for 8 s or")

    async def test_different(self) -> None:
        """What only one of them hears is reported once, and when both agree again."""
        both = (self.original_url, self.shadow_url)
        steady, unheard, unmirrored = node_names(3)
        self.keep_beating({steady: both, unheard: both[1:], unmirrored: both[:1]})
        names = Path(self.mktemp())
        names.write_text(f"{unmirrored}\n")
        lines, status = await self.compare(
            *("--seconds=5", "--every=0.3", "--settle=1", f"--names={names}", *both)
        )
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 3, lines)
        self.assertRegex(lines[0], f"{unheard}: heartbeating is False and True, for 1 s")
        self.assertRegex(lines[1], f"{unmirrored}: heartbeating is True and False, for 1 s")
        self.assertRegex(lines[2], "3 components: 2 differed for 1 s")

    async def test_unreachable(self) -> None:
        """One that can't be reached is said once, with exit status 3; proxies are not used."""
        (port,) = free_ports(1)
        lines, status = await self.compare(
            *("--seconds=1", "--every=0.2", f"http://127.0.0.1:{port}", self.shadow_url)
        )
        self.assertEqual(status, 0, lines)  # no component is known: nothing is asked
        await self.beat(node_names(1)[0], self.shadow_url)
        lines, status = await self.compare(
            *("--seconds=1", "--every=0.2", f"http://127.0.0.1:{port}", self.shadow_url)
        )
        self.assertEqual((status, len(lines)), (3, 2), lines)
        self.assertIn("Connection refused", lines[0])
        lines, status = await self.compare("--ca=/none", "http://a", "http://b")
        self.assertEqual(status, 2)


class TableTests(CompareCase):
    """compare.py and HSM's table."""

    # On a busy machine a heartbeat may be seconds late: news of it would put the table right.
    times = {"warntime": 60, "errtime": 120, "interval": 1}

    async def test_hsm(self) -> None:
        """HSM's state and flag are compared with what the shadow judges."""
        both = (self.original_url, self.shadow_url)
        (name,) = node_names(1)
        self.keep_beating({name: both})
        await until(lambda: name in self.hsm.hsm.components)
        self.tell(Transition.DIED, [name])
        lines, status = await self.compare(
            *("--seconds=6", "--every=0.3", "--settle=1", f"--hsm={self.hsm.url}", *both)
        )
        self.assertEqual(status, 1)
        self.assertRegex(
            "\n".join(lines), f"{name}: HSM has Standby/Alert, the second says healthy, for [1-4] s"
        )


class TakeoverTests(ShadowTestCase):
    """The shadow in place of the original."""

    async def test_takeover(self) -> None:
        """HSM is told of everybody who beats, and of a node that dies while nobody tells it."""
        both = (self.original_url, self.shadow_url)
        names = node_names(20)
        beats: dict[str, tuple[str, ...]] = dict.fromkeys(names, both)
        self.keep_beating(beats)
        await until(lambda: len(self.hsm.hsm.components) == 20)
        before = len(self.hsm.hsm.updates)
        self.original.kill()
        doomed = beats.popitem()[0]
        await deferLater(reactor, 1)
        self.assertEqual(len(self.hsm.hsm.updates), before)
        beats.update(dict.fromkeys(beats, both[1:]))
        await self.shadow.patch(Nosm="0", Use_telemetry="0")
        await until(lambda: self.hsm.hsm.components[doomed].state == "Standby")
        told = [
            (name, update.message)
            for update in self.hsm.hsm.updates[before:]
            for name in update.names
            if name != doomed
        ]
        self.assertEqual(sorted(told), [(name, "Heartbeat started") for name in sorted(beats)])


@skipUnless(shutil.which("nginx"), "there is no nginx")
class MirrorTests(ShadowTestCase):
    """nginx.conf."""

    def start_nginx(self) -> str:
        """Start nginx with the configuration, but for names and paths; return its URL."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        certificate, key = write_identity(make_identity("localhost"), folder)
        (port,) = free_ports(1)
        text = (SHADOW / "nginx.conf").read_text()
        for name, value in (
            ("original.example:28500", f"127.0.0.1:{self.original_port}"),
            ("shadow.example:28500", self.shadow_url.removeprefix("http://")),
            ("https://original", "http://original"),
            ("https://shadow", "http://shadow"),
            ("listen 28500 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/etc/nginx/hbtd.pem", str(certificate)),
            ("/etc/nginx/hbtd.key", str(key)),
        ):
            self.assertIn(name, text)
            text = text.replace(name, value)
        paths = "".join(
            f"{kind}_temp_path {folder};" for kind in ("client_body", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; proxy_temp_path {folder}; {paths}\n{text}\n}}\n"
        )
        process = Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], stderr=PIPE)

        def end() -> None:
            process.terminate()
            process.communicate()

        self.addCleanup(end)
        return f"https://127.0.0.1:{port}"

    async def test_mirrored(self) -> None:
        """Both get each heartbeat, other requests go to the original alone."""
        url = self.start_nginx()
        (name,) = node_names(1)
        for _ in range(100):
            try:
                await self.beat(name, url)
                break
            except Exception:  # noqa: BLE001  # it does not listen yet
                await deferLater(reactor, 0.05)
        await until(lambda: self.shadow.service.tracker.healthy == 1)
        self.assertTrue(await self.original.heartbeating(name))
        _, states = await self.client.request(
            "POST", f"{url}/hmi/v1/hbstates", {"XNames": [name, "x9"]}
        )
        self.assertEqual([each["Heartbeating"] for each in states["HBStates"]], [True, False])
        await self.shadow.service.stopService()
        await self.beat(name, url)
