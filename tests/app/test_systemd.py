"""hbtd as a process of a service manager: what it tells, and the sockets that are passed to it."""

import os
import signal
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.support.processes import MEMORY, HbtdProcess, spawn
from tests.support.running import WebClient, heartbeat, until
from tests.support.service_manager import ServiceManager
from tests.support.short_paths import short_folder

HBTD = ("-m", "hbtd", *MEMORY)
ON_PASSED = ("--kv_url=mem:", "--nosm", "--use_telemetry=no")
STATES = ("READY=1", "RELOADING=1", "STOPPING=1")
TWISTD = (str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=")


async def beats(test: TestCase, url: str) -> None:
    """Check that a heartbeat is taken."""
    status, _ = await WebClient(test).request("POST", f"{url}/hmi/v1/heartbeat", heartbeat())
    test.assertEqual(status, 200)


async def stop(test: TestCase, process: HbtdProcess) -> None:
    """Stop hbtd, and check that it has stopped in order."""
    process.signal(signal.SIGTERM)
    test.assertEqual(await process.ended, 0, process.said)
    test.assertNotIn("Traceback", process.said)


class TellTests(TestCase):
    """What hbtd tells."""

    timeout = 120

    async def test_life(self) -> None:
        """It tells that it serves, reloads, serves again and stops, in that order."""
        manager = ServiceManager(self, watchdog=2)
        process = manager.start(*HBTD)
        await process.url
        await until(lambda: manager.count("READY=1") == 1)
        process.signal(signal.SIGHUP)
        await until(lambda: manager.count("READY=1") == 2)
        await until(lambda: manager.count("WATCHDOG=1") >= 3)
        await stop(self, process)
        lines = "\n".join(manager.told()).split("\n")
        states = [each for each in lines if each in STATES]
        self.assertEqual(states, ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"])
        names = [line.partition("=")[0] for line in lines]
        before = lines[: names.index("READY")]
        self.assertEqual(before[0], "STATUS=Reading options and files ...")
        self.assertIn("EXTEND_TIMEOUT_USEC=300000000", before)
        # Where the socket's queue is short, some of these texts find no room in it.
        self.assertTrue(any(line.startswith("STATUS=Starting ") for line in before), before)
        serving = lines[names.index("READY") + 1]
        self.assertRegex(serving, r"^STATUS=Serving https://.*: 0 heartbeating, 0 warned, 0 dead$")
        after = lines[names.index("STOPPING") :]
        self.assertTrue(any(line.startswith("STATUS=Stopping ") for line in after), after)

    async def test_abort(self) -> None:
        """Ended by the watchdog, with SIGABRT, it says where it was."""
        process = ServiceManager(self).start(*HBTD)
        await process.url
        process.signal(signal.SIGABRT)
        self.assertEqual(await process.ended, -signal.SIGABRT)
        self.assertIn("Fatal Python error: Aborted", process.said)
        self.assertIn("hbtd/cli.py", process.said)

    async def test_could_not_start(self) -> None:
        """It tells why it can't start."""
        manager = ServiceManager(self)
        process = manager.start(*HBTD, "--tls_cert=/none/cert.pem", "--tls_key=/none/key.pem")
        await self.assertFailure(process.url, AssertionError)
        self.assertEqual(await process.ended, 75)
        self.assertIn("STATUS=Could not start: --tls_cert", manager.told()[-1])
        self.assertEqual(manager.count("READY=1"), 0)
        process = manager.start(*HBTD, "--kv_url=sqlite:/none/hbtd.sqlite")
        await self.assertFailure(process.url, AssertionError)
        self.assertEqual(await process.ended, 75)
        self.assertEqual(manager.count("STATUS=Could not start: /none/hbtd.sqlite"), 1)

    async def test_stopped_during_start(self) -> None:
        """Stopped while it starts, it tells so last, and ends with status 0."""
        manager = ServiceManager(self)
        process = manager.start(*HBTD)
        await until(lambda: len(manager.told()) > 0)
        await stop(self, process)
        # A start that waits for nothing comes to its end first.
        states = [each for each in "\n".join(manager.told()).split("\n") if each in STATES]
        self.assertIn(states, (["STOPPING=1"], ["READY=1", "STOPPING=1"]))

    async def test_stopped_while_it_waits(self) -> None:
        """Stopped while its start waits for etcd, it ends with status 0, and did not serve."""
        manager = ServiceManager(self)
        process = manager.start(*HBTD, "--kv_url=http://127.0.0.1:1")
        await until(lambda: manager.count("STATUS=Starting the monitor") == 1)
        process.signal(signal.SIGTERM)
        await self.assertFailure(process.url, AssertionError)
        self.assertEqual(await process.ended, 0, process.said)
        self.assertEqual(manager.count("READY=1"), 0)
        self.assertEqual(manager.count("STATUS=Could not start"), 0)

    async def test_unreachable(self) -> None:
        """Nobody at NOTIFY_SOCKET, or garbage in it, is a warning, and hbtd serves."""
        for address in ("/none/notify", "garbage", "@hbtd-test-nobody"):
            process = ServiceManager(self).start(*HBTD, environ={"NOTIFY_SOCKET": address})
            await beats(self, await process.url)
            await stop(self, process)
            warnings = [each for each in process.said.splitlines() if "NOTIFY_SOCKET" in each]
            self.assertEqual(len(warnings), 1, process.said)


class SocketTests(TestCase):
    """Sockets that are passed to hbtd."""

    timeout = 120

    async def test_restart(self) -> None:
        """Hbtd serves TLS on it; while it is restarted connections wait for the next one."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            manager = ServiceManager(self)
            process = manager.start("-m", "hbtd", *ON_PASSED, passed=listening)
            url = await process.url
            self.assertEqual(url, f"https://127.0.0.1:{port}")
            self.assertIn("Serving on 1 socket that systemd has passed", process.said)
            await beats(self, url)
            await stop(self, process)
            with socket.create_connection(("127.0.0.1", port)):
                process = manager.start("-m", "hbtd", *ON_PASSED, passed=listening)
                await beats(self, await process.url)
            await stop(self, process)

    async def test_check(self) -> None:
        """`--check` looks at the sockets that are passed, and not at the port of the options."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            options = (f"--port={listening.getsockname()[1]}", "--kv_url=mem:", "--nosm")
            for passed, status in ((listening, 0), (None, 75)):
                process = ServiceManager(self).start(
                    "-m", "hbtd", "--check", *options, passed=passed
                )
                process.url.addErrback(lambda failure: None)
                self.assertEqual(await process.ended, status, process.said)
                said = "a socket that systemd has passed" in process.said
                self.assertEqual(said, passed is not None)

    async def test_ways(self) -> None:
        """So does hbtd as a plugin of twistd, and from its .tac file."""
        environ = {"HBTD_KV_URL": "mem:", "HBTD_NOSM": "yes", "HBTD_USE_TELEMETRY": "no"}
        for arguments in ((*TWISTD, "hbtd"), (*TWISTD, "-y", "hbtd.tac")):
            with socket.create_server(("127.0.0.1", 0)) as listening:
                process = ServiceManager(self).start(*arguments, passed=listening, environ=environ)
                port = listening.getsockname()[1]
                self.assertEqual(await process.url, f"https://127.0.0.1:{port}")
                await stop(self, process)

    async def test_listen(self) -> None:
        """With --listen it is served if that says so, even without a name; else hbtd warns."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            options = ("--listen=tcp:0:interface=127.0.0.1",)
            process = ServiceManager(self).start(*HBTD, *options, passed=listening)
            self.assertNotEqual(await process.url, f"http://127.0.0.1:{port}")
            self.assertIn("hbtd does not serve 1 socket that systemd has passed", process.said)
            await stop(self, process)
            options = ("--listen=systemd:domain=INET:index=0",)
            process = ServiceManager(self).start(*HBTD, *options, passed=listening)
            self.assertEqual(await process.url, f"http://127.0.0.1:{port}")
            self.assertNotIn("does not serve", process.said)

    async def test_listen_closes(self) -> None:
        """With --listen, clients of a socket that is passed are refused once systemd closes it."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = listening.getsockname()
            options = ("--listen=tcp:0:interface=127.0.0.1",)
            process = ServiceManager(self).start(*HBTD, *options, passed=listening)
            await process.url
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address, 10)
        await stop(self, process)

    async def test_unix(self) -> None:
        """A Unix socket that is passed keeps its mode and its file, also with --listen."""
        path = short_folder(self) / "socket"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            path.chmod(0o600)
            listening.listen()
            for options in ((), ("--listen=systemd:domain=UNIX:index=0",)):
                process = ServiceManager(self).start(*HBTD, *options, passed=listening)
                self.assertEqual(await process.url, f"unix:{path}")
                await stop(self, process)
                self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    async def test_other_process(self) -> None:
        """Sockets that were passed to the parent of hbtd are not its own."""
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        with socket.create_server(("127.0.0.1", 0)) as listening:
            process = spawn(self, HBTD, environ, passed=[listening.fileno()])
            self.assertNotIn(str(listening.getsockname()[1]), await process.url)
            self.assertNotIn("that systemd has passed", process.said)

    async def test_unfit(self) -> None:
        """A socket that can't be served ends it with status 2, and the line names it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            process = ServiceManager(self).start("-m", "hbtd", *ON_PASSED, passed=datagram)
            await self.assertFailure(process.url, AssertionError)
            self.assertEqual(await process.ended, 2)
        self.assertIn("file descriptor 3, which systemd has passed (LISTEN_FDS)", process.said)
        self.assertEqual(
            len(process.said.splitlines()), 1 + process.said.count("hbtd 0.1.0 starts")
        )
