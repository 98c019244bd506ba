"""hbtd-agent as a process, against a live hbtd, and against servers that misbehave."""

import json
import os
import re
import signal
import socket
from functools import partial
from pathlib import Path

from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.agent import (
    AgentProcess,
    ScriptedServer,
    SimulatedClock,
    agent,
    pythons,
    spawn_agent,
)
from tests.support.live_agent import LiveTestCase, options
from tests.support.processes import CHECKOUT, MEMORY, spawn
from tests.support.running import NODE, reactor, until
from tests.support.server_process import free_ports
from tests.support.short_paths import short_folder

TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class PythonsTests(LiveTestCase):
    """Every Python that nodes may have."""

    timeout = 120

    async def test_all(self):
        """With each Python on this host a node is heard over TLS, on one connection."""
        hbtd, trusting = self.start()
        found = pythons()
        agents = {}
        for number, (version, python) in enumerate(sorted(found.items())):
            self.certify(name := f"x1000c0s{number}b0n0")
            cert, key = self.folder / f"{number}.pem", self.folder / f"{number}-key.pem"
            os.rename(self.folder / "node.pem", cert)
            os.rename(self.folder / "node-key.pem", key)
            own = [*trusting, f"--cert={cert}", f"--key={key}"]
            agents[version] = spawn_agent(self, options(hbtd.url, *own, xname=name), python=python)
        await self.heard(hbtd, 3 * len(found))
        for version, process in agents.items():
            self.assertEqual(await process.stop(), 0, version)
            self.assertRegex(process.said, r"\AHeartbeats of \S+ are taken at \S+, .*\n\Z", version)

    async def heard(self, hbtd, count):
        """Wait until hbtd has taken some heartbeats."""
        metric = re.compile(r"^hbtd_heartbeats_total(?:\{.*\})? (\d+)", re.MULTILINE)
        for _ in range(400):
            response = await hbtd.client.treq.get(f"{hbtd.url}/metrics")
            text = (await response.content()).decode()
            if sum(int(each) for each in metric.findall(text)) >= count:
                return
            await deferLater(reactor, 0.1)
        self.fail(f"not {count} heartbeats")


class LiveTests(LiveTestCase):
    """An agent of this host's Python."""

    timeout = 120

    async def test_renewed(self):
        """A certificate that is replaced while the agent runs is used for the next heartbeat."""
        hbtd, trusting = self.start()
        own = self.certify("x9000c0s0b0n0")
        process = spawn_agent(self, options(hbtd.url, *trusting, *own))
        await until(lambda: "answer 403: Only heartbeats of one" in process.said)
        self.certify(NODE)
        await until(lambda: "are taken at" in process.said)
        self.assertEqual(len(process.said.splitlines()), 2)

    async def test_untrusted(self):
        """An hbtd that nobody vouches for gets no heartbeat, and the log says why."""
        hbtd, _ = self.start(node_access="any")
        for trust in "--ca=system", f"--ca={self.folder / 'ca' / 'cert.pem'}":
            process = spawn_agent(self, options(hbtd.url, trust, "--once"))
            self.assertEqual(await process.ended, agent.UNREACHABLE)
            self.assertRegex(process.said, r"TLS: .*certificate|TLS: .*self.signed")
            self.assertIn("HBTD_AGENT_CA says whom to trust", process.said)
        url = hbtd.url.replace("localhost", "127.0.0.1")
        process = spawn_agent(
            self, options(url, f"--ca={self.folder / 'hbtd' / 'cert.pem'}", "--once")
        )
        self.assertEqual(await process.ended, agent.UNREACHABLE)

    async def test_once(self):
        """One heartbeat is sent at once, and the exit status says what became of it."""
        hbtd, trusting = self.start()
        own = self.certify(NODE)
        (closed,) = free_ports(1)
        for arguments, status in (
            (options(hbtd.url, *trusting, *own, "--once"), agent.OK),
            (options(hbtd.url, *trusting, "--once"), agent.REFUSED),
            (options(hbtd.url, *trusting, *own, "--once", xname="x1000c0s0b0n1"), agent.REFUSED),
            (options(hbtd.url, *trusting, *own, "--once", xname="nonsense"), agent.USAGE),
            (options(hbtd.url, *trusting, "--cert=/no", "--key=/no", "--once"), agent.USAGE),
            (options(hbtd.url + "/nothing", *trusting, *own, "--once"), agent.BROKEN),
            (options(f"https://localhost:{closed}", "--once"), agent.UNREACHABLE),
            (options("https://nobody.invalid", "--once"), agent.UNREACHABLE),
            (["--once"], agent.USAGE),
            (["--nothing"], agent.USAGE),
        ):
            process = spawn_agent(self, arguments)
            self.assertEqual(await process.ended, status, (arguments, process.said))
            self.assertEqual(bool(process.said), status != agent.OK)

    async def test_proxies(self):
        """Proxies in the environment are ignored."""
        hbtd, trusting = self.start(node_access="any")
        (closed,) = free_ports(1)
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY")
        environ = dict.fromkeys(names, f"http://127.0.0.1:{closed}")
        process = spawn_agent(self, options(hbtd.url, *trusting, "--once"), environ)
        self.assertEqual(await process.ended, agent.OK, process.said)

    async def test_curl(self):
        """The line for nodes without Python, as docs/operations.md has it, sends heartbeats."""
        text = (CHECKOUT / "docs" / "operations.md").read_text()
        (line,) = re.findall(r"^while sleep 3; do curl .*done$", text, re.MULTILINE)
        hbtd, trusting = self.start(node_access="any")
        bundle = trusting[0].partition("=")[2]
        line = line.replace("/etc/hbtd/site-ca.pem", bundle).replace("sleep 3", "sleep 0.2")
        line = line.replace("https://hbtd.example:28500", hbtd.url)
        shell = AgentProcess()
        self.addCleanup(shell.finish)
        command = ["/bin/sh", "-c", line]
        environ = {"PATH": os.environ["PATH"], "https_proxy": "http://127.0.0.1:1"}
        reactor.spawnProcess(shell, "/bin/sh", command, env=environ)
        while await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/hbstate/{NODE}") != (
            200,
            {"XName": NODE, "Heartbeating": True},
        ):
            self.assertEqual(shell.said, "")
            await deferLater(reactor, 0.1)

    async def test_warntime(self):
        """The period is a third of the `Warntime` that hbtd has, and kept for the next agent."""
        hbtd, trusting = self.start(node_access="any", warntime=3, errtime=30)
        arguments = [f"--url={hbtd.url}", f"--xname={NODE}", *trusting]
        os.mkdir(folder := self.mktemp())
        environ = {"RUNTIME_DIRECTORY": os.path.abspath(folder)}
        process = spawn_agent(self, arguments, environ)
        await until(lambda: "Warntime is 3: Heartbeats" in process.said)
        self.assertIn("one every 1 s", process.said)
        self.assertEqual(await process.stop(), 0)
        process = spawn_agent(self, arguments, environ)
        await until(lambda: "one every 1 s" in process.said)
        self.assertNotIn("3.33", process.said)

    async def test_own_warntime(self):
        """A node to which a threshold applies beats by that."""
        hbtd, trusting = self.start(node_access="any", warntime=30, errtime=90)
        status, _ = await hbtd.client.request(
            "PUT",
            f"{hbtd.url}/hmi/v1/thresholds",
            [{"Match": NODE, "Warntime": 3}, {"Match": "Node", "Warntime": 6}],
        )
        self.assertEqual(status, 200)
        process = spawn_agent(self, [f"--url={hbtd.url}", f"--xname={NODE}", *trusting])
        await until(lambda: "Warntime is 3: Heartbeats" in process.said)

    async def test_hbtd_restarts(self):
        """When hbtd is killed and comes back, the node is heard again; the log has a line each."""
        (port,) = free_ports(1)
        arguments = ["-m", "hbtd", *MEMORY[:1], *MEMORY[2:], f"--port={port}", "--tls=no"]
        first = spawn(self, arguments)
        url = await first.url
        process = spawn_agent(self, options(url))
        await until(lambda: "are taken at" in process.said)
        first.signal(signal.SIGKILL)
        await first.ended
        await until(lambda: "not taken" in process.said)
        second = spawn(self, arguments)
        await second.url
        await until(lambda: process.said.count("are taken at") == 2)
        await until(lambda: NODE in second.said)
        said = process.said.splitlines()
        self.assertEqual(len([each for each in said if " not taken" in each]), len(said) - 2)
        self.assertLessEqual(len(said), 4)


class MisbehavingTests(TestCase):
    """Servers that hang, close, delay and babble."""

    timeout = 120

    async def test_one_connection(self):
        """All heartbeats and questions use one connection, with the token that is current."""
        token = Path(self.mktemp())
        token.write_text("first-token")
        server = ScriptedServer(self, lambda request: TAKEN)
        spawn_agent(self, options(server.url, f"--token-file={token}"))
        await until(lambda: len(server.requests) >= 2)
        token.write_text("another-token")
        await until(lambda: b"Bearer another-token\r\n" in server.requests[-1])
        self.assertIn(b"Bearer first-token\r\n", server.requests[0])
        self.assertEqual(len(server.connections), 1)

    async def test_closed(self):
        """A connection that was closed while it was idle is made anew without a word."""
        server = ScriptedServer(self, lambda request: TAKEN)
        process = spawn_agent(self, options(server.url))
        for count in range(1, 4):
            await self.requested(server, count)
            server.connections[-1].transport.loseConnection()
        await until(lambda: len(server.connections) == 4)
        self.assertEqual(len(process.said.splitlines()), 1, process.said)

    async def requested(self, server, count):
        """Wait until a server has had some requests."""
        await until(lambda: len(server.requests) == count)

    async def test_announced(self):
        """Neither is it a failure if a gateway says 408 before it closes."""
        server = ScriptedServer(self, lambda request: TAKEN)
        process = spawn_agent(self, options(server.url))
        await until(lambda: len(server.requests) == 1)
        server.connections[0].transport.write(
            b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        server.connections[0].transport.loseConnection()
        await until(lambda: len(server.requests) >= 2)
        self.assertEqual(len(process.said.splitlines()), 1, process.said)

    async def test_hung(self):
        """A server that never answers, or goes on for ever, is given up in time."""

        def trickle(request):
            connection = server.connections[-1]
            more = iter(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000)
            call = LoopingCall(lambda: connection.transport.write(bytes([next(more)])))
            call.clock = reactor
            call.start(0.05)
            self.addCleanup(call.stop)

        for answers in (lambda request: None), trickle:
            server = ScriptedServer(self, answers)
            process = spawn_agent(self, options(server.url, "--once"))
            began = reactor.seconds()
            self.assertEqual(await process.ended, agent.UNREACHABLE)
            self.assertLess(reactor.seconds() - began, 10)
            self.assertIn("timed out", process.said)

    async def test_babble(self):
        """What is not HTTP, or a web page, is no success."""
        page = b"<html>Welcome</html>"
        for reply in (
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n" + page,
            b"HTTP/1.1 301 Moved\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
        ):
            server = ScriptedServer(self, partial(_always, reply))
            process = spawn_agent(self, options(server.url, "--once"))
            self.assertEqual(await process.ended, agent.BROKEN, process.said)
            self.assertEqual(len(process.said.splitlines()), 1)

    async def test_not_now(self):
        """After a 503 the next heartbeat comes after the pause asked for, on another connection."""
        asked = b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"
        times = []

        def answers(request):
            times.append(reactor.seconds())
            return asked if len(times) == 1 else TAKEN

        server = ScriptedServer(self, answers)
        process = spawn_agent(self, options(server.url))
        await until(lambda: "are taken at" in process.said)
        self.assertGreater(times[1] - times[0], 2.9)
        self.assertEqual(len(server.connections), 2)
        self.assertIn("answer 503", process.said)

    async def test_addresses(self):
        """Of several addresses the first one that answers gets the heartbeat, and the next ones.

        Once the name has another address, that one gets them.
        """
        servers = [ScriptedServer(self, lambda request: None) for _ in range(2)]
        hung, good = sorted(servers, key=lambda each: each.port)
        good.answers = lambda request: TAKEN
        ports = [*free_ports(1), hung.port, good.port]
        clock = SimulatedClock(1e9, 2e9)
        found = agent.find_settings({"url": "http://hbtd", "xname": NODE}, {}, read=lambda path: "")
        addresses = agent.Addresses(found.target, 0.0, clock)
        known = [("127.0.0.1", port) for port in ports]
        self.patch(agent.Addresses, "look_up", lambda it: _Done(it, known))
        credentials = agent.Credentials(found, print, agent.time)
        connection = agent.Connection(addresses, credentials, agent.time)
        self.addCleanup(connection.close)
        data = agent.Requests(found).heartbeat("", 0.0)
        for _ in range(3):
            answer = await deferToThread(connection.request, data, 1.0)
            self.assertEqual(answer.status, 200)
        self.assertEqual((len(good.requests), len(good.connections)), (3, 1))
        self.assertEqual(len(hung.requests), 1)
        moved = ScriptedServer(self, lambda request: TAKEN)
        known[:] = [("127.0.0.1", moved.port)]
        addresses.look_up()
        await deferToThread(connection.request, data, 1.0)
        self.assertEqual((len(good.requests), len(moved.requests)), (3, 1))

    async def test_systemd(self):
        """Systemd is told that it is ready, how it goes, that it lives, and that it stops."""
        path = str(short_folder(self) / "notify")
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        told.bind(path)
        told.setblocking(False)
        self.addCleanup(told.close)
        messages = []

        def read():
            try:
                while True:
                    messages.append(told.recv(1000).decode())
            except BlockingIOError:
                return messages

        server = ScriptedServer(self, lambda request: TAKEN)
        process = spawn_agent(self, options(server.url), {"NOTIFY_SOCKET": path})
        await until(lambda: len(server.requests) >= 3)
        await process.stop()
        read()
        self.assertEqual(messages[0], "READY=1")
        self.assertEqual(messages[-1], "STOPPING=1")
        self.assertTrue(any(re.match("STATUS=Heartbeats of .* are taken", m) for m in messages))
        self.assertGreaterEqual(messages.count("WATCHDOG=1"), 3)

    async def test_print(self):
        """What would be sent is shown, with where it was found, and nothing is sent."""
        server = ScriptedServer(self, lambda request: TAKEN)
        process = spawn_agent(self, options(server.url, "--print"), {"HBTD_AGENT_STATUS": "Fine"})
        self.assertEqual(await process.ended, 0)
        self.assertIn("status: from HBTD_AGENT_STATUS\n", process.said)
        body = json.loads(process.said.rpartition("\n\n")[2])
        self.assertEqual((body["Component"], body["Status"]), (NODE, "Fine"))
        self.assertEqual(server.connections, [])


def _always(reply, request):
    """Answer each request alike."""
    return reply


class _Done:
    """A look-up that has found what it looks for."""

    def __init__(self, addresses, known):
        addresses.known = list(known)

    def join(self, patience):
        """Return at once."""
