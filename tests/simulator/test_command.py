"""The command line `python -m hbtd.simulator`."""

import os
import re
import signal
import sys
from io import StringIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent
from twisted.web.server import Site

import hbtd
from hbtd.simulator.__main__ import main
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.commands import describe_update, run_fleet
from hbtd.simulator.endpoints import split_url
from hbtd.simulator.options import Event, FleetOptions, HSMOptions
from tests.support.certificates import make_identity, write_identity
from tests.support.fleet_memory import Recorder

UPDATE = (
    b'{"ComponentIDs":["x0c0s0b0n0"],"State":"Ready","Flag":"Warning",'
    b'"ExtendedInfo":{"Message":"hello"}}'
)


class Process(ProcessProtocol):
    """Runs the simulator and collects its output."""

    def __init__(self):
        self.out = b""
        self.first_line: Deferred[bytes] = Deferred()
        self.ended: Deferred[BaseException] = Deferred()

    def outReceived(self, data):
        """Collect output, and fire `first_line` when there is one."""
        self.out += data
        if b"\n" in self.out and not self.first_line.called:
            self.first_line.callback(self.out.partition(b"\n")[0])

    def errReceived(self, data):
        """Write errors to the test's log."""
        sys.stderr.write(data.decode())

    def processEnded(self, reason):
        """Fire `ended`, and fail `first_line` if there has been none."""
        if not self.first_line.called:
            self.first_line.errback(reason)
        self.ended.callback(reason.value)


def start(reactor: Any, *arguments: str) -> Any:
    """Start the simulator as a process of its own."""
    process: Any = Process()
    reactor.spawnProcess(
        process,
        sys.executable,
        [sys.executable, "-m", "hbtd.simulator", *arguments],
        env=dict(os.environ),
        path=str(Path(hbtd.__file__).parent.parent),
    )
    return process


class CommandTests(TestCase):
    """The commands `hsm` and `fleet`, mostly as processes."""

    timeout = 120

    async def test_serves_until_terminated(self):
        """The command `hsm` prints its address and updates, and exits with 0 on SIGTERM."""
        from twisted.internet import reactor

        process = start(reactor, "hsm", "--port", "0")
        line = (await process.first_line).decode()
        self.assertRegex(line, r"^fake HSM listening on http://127\.0\.0\.1:[1-9]\d*/hsm/v1$")
        url = line.rpartition(" ")[2]
        response = await HTTPClient(Agent(reactor)).patch(
            f"{url}/State/Components/BulkStateData", data=UPDATE
        )
        self.assertEqual(response.code, 204)
        process.transport.signalProcess(signal.SIGTERM)
        self.assertIsInstance(await process.ended, ProcessDone)
        self.assertIn(b"Ready/Warning (hello) 1: x0c0s0b0n0\n", process.out)

    def test_line(self):
        """An applied update is described in a line, with the first few of its names."""
        update = Update(b"", 0.0, names=[f"x{n}" for n in range(9)], state="Ready", flag="OK")
        self.assertRegex(
            describe_update(update), r"^\d\d:\d\d:\d\d Ready/OK \(\) 9: x0 x1 x2 x3 \.\.\.$"
        )

    def test_costs(self):
        """By default updates take as long as with the real HSM; each cost can be set."""
        options = HSMOptions()
        options.parseOptions([])
        self.assertEqual((options["cost_ms"], options.costs_by_state()), (0.5, {"Standby": 2.0}))
        options.parseOptions(["--ready_cost_ms", "0", "--standby_cost_ms=1"])
        self.assertEqual(options.costs_by_state(), {"Ready": 0.0, "Standby": 1.0})

    def test_bad_values(self):
        """An invalid value is refused with the option's name."""
        for arguments in (["--port", "65536"], ["--port", "x"], ["--cost_ms", "-1"]):
            with self.assertRaises(usage.UsageError) as caught:
                HSMOptions().parseOptions(arguments)
            self.assertTrue(str(caught.exception).startswith(f"{arguments[0]} {arguments[1]}: "))

    def test_exit_status(self):
        """Invalid arguments end the command with status 2 after one line."""
        complaints = StringIO()
        for arguments in ([], ["cook"], ["hsm", "--port", "x"], ["hsm", "more"]):
            with self.assertRaises(SystemExit) as caught:
                main(arguments, complaints)
            self.assertEqual(caught.exception.code, 2)
        self.assertEqual(complaints.getvalue().count("\n"), 4)

    async def test_fleet(self):
        """A fleet runs for some seconds, prints its events, and ends with a summary."""
        from twisted.internet import reactor as installed

        reactor: Any = installed
        recorder = Recorder(lambda: 0.0)
        site: Any = Site(recorder, reactor=reactor)
        port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}"
        arguments = ["--nodes=20", "--period=0.1", "--seconds=0.6", "--kill=0.5@0.2"]
        arguments += ["--freeze=0.2@0.3", "--revive=1@0.4", f"--url={url}"]
        process = start(reactor, "fleet", *arguments)
        self.assertIsInstance(await process.ended, ProcessDone)
        lines = process.out.decode().splitlines()
        self.assertEqual(lines[0], f"fleet of 20 nodes beating to {url}")
        told = [line.split("s  ")[1] for line in lines[1:4]]
        self.assertEqual(told, ["kill 10 nodes", "freeze 2 nodes", "revive 12 nodes"])
        self.assertRegex(lines[4], r"^\d+ heartbeats sent in 0\.\d s \(\d+/s\)$")
        self.assertTrue(len(recorder.beats) >= 40, len(recorder.beats))

    async def test_commands(self):
        """A fleet does what standard input says, and what is posted to its port."""
        from twisted.internet import reactor as installed

        reactor: Any = installed
        site: Any = Site(Recorder(lambda: 0.0), reactor=reactor)
        port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"--url=http://127.0.0.1:{port.getHost().port}"
        process = start(reactor, "fleet", "--nodes=128", "--control_port=0", url)
        await process.first_line
        process.transport.write(b"kill x1000c1\nnonsense\nstatus\n")
        while b"beating 64  killed 64" not in process.out:
            await deferLater(reactor, 0.01)
        self.assertIn(b"'nonsense' is no command", process.out)
        address = re.search(rb"commands to the fleet: (\S+)", process.out)
        assert address is not None
        client = HTTPClient(Agent(reactor))
        answer = await client.post(f"{address[1].decode()}/revive", data=b"x1000c1s[0-3]")
        self.assertEqual((await answer.json())["Changed"], 32)
        process.transport.closeStdin()
        process.transport.signalProcess(signal.SIGTERM)
        self.assertIsInstance(await process.ended, ProcessDone)

    def test_progress(self):
        """A fleet prints a line of progress every five seconds."""
        clock: Any = MemoryReactorClock()
        options = FleetOptions()
        options.parseOptions(["--url=http://127.0.0.1:1", "--nodes=4", "--kill=0.5@1"])
        out = StringIO()
        running = Deferred.fromCoroutine(run_fleet(clock, options, out))
        clock.pump([0.5] * 22)
        progress = out.getvalue().splitlines()[2:]
        self.assertEqual(
            [line.partition("  failed")[0] for line in progress],
            [
                "     5 s  beating 2  silent 2  sent 0",
                "    10 s  beating 2  silent 2  sent 0",
            ],
        )
        running.cancel()
        self.failureResultOf(running)

    async def test_interrupted(self):
        """A fleet that is interrupted prints its summary and exits with 0."""
        from twisted.internet import reactor

        # Nothing listens on port 1, which does not stop a fleet.
        process = start(reactor, "fleet", "--url=http://127.0.0.1:1", "--nodes=2")
        await process.first_line
        process.transport.signalProcess(signal.SIGINT)
        self.assertIsInstance(await process.ended, ProcessDone)
        self.assertIn(b"\n0 heartbeats sent in ", process.out)


class OptionsTests(SynchronousTestCase):
    """The command line is checked before anything starts."""

    def parse(self, *arguments: str) -> FleetOptions:
        """Parse a command line."""
        options = FleetOptions()
        options.parseOptions(arguments)
        return options

    def test_defaults(self):
        """Without options, a hundred nodes send heartbeats to an hbtd on this host."""
        options = self.parse()
        self.assertEqual((options["url"], options["nodes"]), ("https://localhost:28500", 100))
        self.assertEqual((options["period"], options["jitter"]), (3.0, 0.1))
        self.assertEqual((options.events, options["ca"]), ([], "insecure"))

    def test_events(self):
        """Events may be given any number of times, in any order."""
        options = self.parse("--kill", "0.1@30", "--revive=1@60", "--kill=0.5@90.5")
        self.assertEqual(
            options.events,
            [Event("kill", 0.1, 30), Event("revive", 1, 60), Event("kill", 0.5, 90.5)],
        )

    def test_nodesets(self):
        """Events may name nodes; a text that is no nodeset is refused."""
        options = self.parse("--kill", "x1000c[0-3],nid000007@30", "--freeze=x1000c7s0b0n0@2")
        self.assertEqual(
            options.events,
            [
                Event("kill", 0.0, 30, "x1000c[0-3],nid000007"),
                Event("freeze", 0.0, 2, "x1000c7s0b0n0"),
            ],
        )
        with self.assertRaises(usage.UsageError) as caught:
            self.parse("--kill", "x[0-@30")
        self.assertTrue(str(caught.exception).startswith("--kill x[0-@30: "))

    def test_bad_values(self):
        """An invalid value is refused in one line that names option and value."""
        for option, value in (
            ("--url", "ftp://localhost"),
            ("--url", "localhost:28500"),
            ("--url", "http://localhost:0"),
            ("--nodes", "0"),
            ("--nodes", "many"),
            ("--period", "0"),
            ("--period", "nan"),
            ("--jitter", "1"),
            ("--connections", "0"),
            ("--seconds", "-1"),
            ("--seconds", "inf"),
            ("--seed", "x"),
            ("--kill", "10"),
            ("--kill", "2@3"),
            ("--freeze", "@"),
            ("--freeze", "nan@1"),
            ("--revive", "0.5@-1"),
            ("--revive", "x1000c7@soon"),
            ("--control_port", "65536"),
            ("--ca", "/nowhere/ca.pem"),
        ):
            with self.assertRaises(usage.UsageError) as caught:
                self.parse(option, value)
            message = str(caught.exception)
            self.assertTrue(message.startswith(f"{option} {value}: must be "), message)
            self.assertNotIn("\n", message)

    def test_ca(self):
        """The PEM bundle must contain certificates."""
        with NamedTemporaryFile() as file, self.assertRaises(usage.UsageError):
            self.parse("--ca", file.name)
        path, _ = write_identity(make_identity("localhost"), Path(self.mktemp()))
        self.assertEqual(self.parse("--ca", str(path))["ca"], str(path))

    def test_split_url(self):
        """A URL without a host or with an invalid port is refused."""
        for url in ("http://localhost:99999", "http://", "http:///path"):
            with self.assertRaises(ValueError):
                split_url(url)
