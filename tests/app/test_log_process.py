"""The process's log, its first moments, and the host it runs on."""

import os
import re
import select
import signal
import socket
import sys
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase

from tests.support.processes import CHECKOUT, MEMORY, spawn
from tests.support.running import WebClient, heartbeat, reactor, until

WITHOUT_NAME = (
    "import os, socket, sys\n"
    "socket.sethostname('')\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'hbtd', *sys.argv[1:]])\n"
)

IPV6_ONLY = """
import fcntl, re, socket, struct, subprocess, sys
with socket.socket() as made:
    fcntl.ioctl(made, 0x8914, struct.pack("16sh", b"lo", 0x49))  # sets the loopback interface up
with open("/proc/sys/net/ipv6/bindv6only", "w") as file:
    file.write("1")
command = [sys.executable, "-m", "hbtd", *sys.argv[1:]]
process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
said = iter(process.stderr.readline, "")
url = next(filter(None, (re.search("serves http://.*:([0-9]+)", line) for line in said)))
for host in ("127.0.0.1", "::1"):
    try:
        socket.create_connection((host, int(url[1])), 5).close()
        print(host, "can connect")
    except OSError as error:
        print(host, error)
process.terminate()
print(process.communicate()[1])
sys.exit(process.returncode)
"""


class StalledReaderTests(TestCase):
    """Whoever reads standard error stops reading."""

    timeout = 240

    async def test_serves_and_stops(self) -> None:
        """With a full pipe hbtd serves as before, counts what it drops, and stops on SIGTERM."""
        reader, end = os.pipe()
        self.addCleanup(os.close, reader)
        fcntl(end, F_SETPIPE_SZ, select.PIPE_BUF)
        port = _free_port()
        process = spawn(
            self,
            ["-m", "hbtd", *MEMORY, "--tls=no", f"--port={port}", "--address=127.0.0.1"],
            stderr=end,
        )
        process.url.addErrback(lambda failure: None)
        os.close(end)
        client, url = WebClient(self), f"http://127.0.0.1:{port}"

        async def up() -> bool:
            try:
                status, _ = await client.request("GET", f"{url}/v1/readiness")
            except Exception:  # noqa: BLE001  # not yet
                return False
            return status == 204

        while not await up():
            await deferLater(reactor, 0.05)
        # Each is a line of the log, far more than the pipe holds.
        for number in range(100):
            name = f"x1000c0s0b0n{number}"
            status, _ = await client.request("POST", f"{url}/v1/heartbeat", heartbeat(name))
            self.assertEqual(status, 200)
            status, _ = await client.request("DELETE", f"{url}/v1/heartbeat/{name}")
            self.assertEqual(status, 204)
        self.assertEqual(await client.request("GET", f"{url}/v1/liveness"), (204, None))
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.ended, 0)
        said = os.read(reader, 100_000).decode()
        self.assertEqual(said[-1], "\n")  # no line is cut
        self.assertIn("hbtd 0.", said.splitlines()[0])

    async def test_last_lines(self) -> None:
        """What is logged last is written before the process ends, however it ends."""
        for arguments, status, last in (
            ((*MEMORY, "--tls=no"), 0, "hbtd has stopped."),
            ((*MEMORY, "--tls=no", "--kv_url=sqlite:/nowhere/x"), 75, "hbtd has stopped."),
            ((*MEMORY, "--listen=unix:/nowhere/x"), 75, "can't listen: /nowhere/x.lock: No such"),
        ):
            process = spawn(self, ["-m", "hbtd", *arguments])
            process.url.addCallbacks(
                lambda _, process=process: process.signal(signal.SIGTERM), lambda failure: None
            )
            self.assertEqual(await process.ended, status, process.said)
            self.assertIn(last, process.said.splitlines()[-1])


class StartTests(TestCase):
    """The first moments of the process."""

    timeout = 240

    def survives(self, signal_number: int, process: int) -> bool:
        """Return whether a process holds or handles a signal; check that it does before Twisted."""
        if b"\0-m\0hbtd\0" not in Path(f"/proc/{process}/cmdline").read_bytes():
            return False  # it is still that of the test
        # Twisted needs zope.interface, which has a library; it takes most of the start.
        twisted = "zope" in Path(f"/proc/{process}/maps").read_text()
        status = Path(f"/proc/{process}/status").read_text()
        # `make coverage` handles SIGTERM from the beginning, and ends the process.
        which = "Blk|Cgt" if signal_number == signal.SIGHUP else "Blk"
        masks = re.findall(rf"^Sig(?:{which}):\s*(\w+)$", status, re.MULTILINE)
        held = any(int(mask, 16) >> (signal_number - 1) & 1 for mask in masks)
        self.assertTrue(held or not twisted)
        return held

    async def test_hangup(self) -> None:
        """A SIGHUP at any moment of the start does not end it, and makes it read files again."""
        for delay in (0.0, 0.1, 0.2, 0.3):
            process = spawn(self, ["-m", "hbtd", *MEMORY])
            transport: Any = process.transport
            # The interpreter itself needs a moment before hbtd can do anything.
            await until(lambda: self.survives(signal.SIGHUP, transport.pid))  # noqa: B023
            self.assertEqual(process.said, "")
            await deferLater(reactor, delay)
            process.signal(signal.SIGHUP)
            await process.url
            await until(lambda: "Change by SIGHUP: certificates" in process.said)  # noqa: B023
            process.signal(signal.SIGTERM)
            self.assertEqual(await process.ended, 0, process.said)

    async def test_terminated(self) -> None:
        """A SIGTERM at any moment of the start stops it in order, with status 0."""
        for delay in (0.0, 0.1, 0.2, 0.3, 0.4):
            process = spawn(self, ["-m", "hbtd", *MEMORY])
            process.url.addErrback(lambda failure: None)
            transport: Any = process.transport
            await until(lambda: self.survives(signal.SIGTERM, transport.pid))  # noqa: B023
            await deferLater(reactor, delay)
            process.signal(signal.SIGTERM)
            self.assertEqual(await process.ended, 0, process.said)
            self.assertIn("hbtd has stopped.", process.said)

    async def test_first_line(self) -> None:
        """The first line of the log names the version and the store."""
        path = Path(self.mktemp()).resolve()
        path.mkdir(parents=True)
        process = spawn(self, ["-m", "hbtd", *MEMORY, f"--kv_url=sqlite:{path}/x.sqlite"])
        await process.url
        first = process.said.splitlines()[0]
        self.assertRegex(first, r"hbtd \d+\.\d+\.\d+ starts\. Its records are kept in the file ")
        self.assertIn(f"{path}/x.sqlite", first)

    async def test_environment(self) -> None:
        """A variable that is no option's is a warning; those of Kubernetes are nothing."""
        process = spawn(
            self,
            ["-m", "hbtd", "--kv_url=mem:", "--nosm", "--listen=tcp:0:interface=127.0.0.1"],
            {
                "HBTD_PORT": "tcp://10.96.12.7:28500",
                "HBTD_SERVICE_HOST": "10.96.12.7",
                "HBTD_WARN_TIME": "3",
            },
        )
        await process.url
        lines = [line for line in process.said.splitlines() if "HBTD_" in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(
            lines[0], r" warn .* variable HBTD_WARN_TIME: .*\(did you mean HBTD_WARNTIME\?\)\.$"
        )


class HostTests(TestCase):
    """Hosts that are set up in unusual ways."""

    timeout = 120

    async def in_namespace(self, kind: str, *arguments: str) -> tuple[str, int]:
        """Run Python in a new namespace; return its output and status."""
        out, _, status = await getProcessOutputAndValue(
            "unshare", ["-r", kind, "true"], env=dict(os.environ)
        )
        if status != 0:
            raise SkipTest("namespaces can't be made here")
        out, err, status = await getProcessOutputAndValue(
            "unshare", ["-r", kind, sys.executable, *arguments], env={**os.environ}, path=CHECKOUT
        )
        return (out + err).decode(), status

    async def test_without_name(self) -> None:
        """Where a certificate is to be made for a host without a name, one line says what to do."""
        said, status = await self.in_namespace("-u", "-c", WITHOUT_NAME, *MEMORY)
        self.assertEqual(status, 2)
        self.assertRegex(
            said, r"\Ahbtd: no certificate can be made for a host named '': [^\n]+ --tls_cert.*\n\Z"
        )

    async def test_without_name_and_certificate(self) -> None:
        """Where none is to be made, the host needs no name."""
        said, status = await self.in_namespace(
            "-u", "-c", WITHOUT_NAME, *MEMORY, "--listen=unix:/nowhere/x"
        )
        self.assertEqual(status, 75)
        self.assertIn("can't listen: /nowhere/x.lock", said)
        self.assertNotIn("Traceback", said)

    async def test_ipv6_only(self) -> None:
        """Where ports for IPv6 are for IPv6 alone, hbtd serves IPv4 as well, or says that not."""
        for arguments, reached in (
            (("--port=0",), True),
            (("--port=0", "--address=::"), True),
            (("--listen=tcp6:0",), False),
        ):
            said, status = await self.in_namespace(
                "-n", "-c", IPV6_ONLY, *MEMORY[:1], *MEMORY[2:], "--tls=no", *arguments
            )
            self.assertEqual(status, 0, said)
            self.assertIn("::1 can connect", said)
            self.assertIs("127.0.0.1 can connect" in said, reached, said)

    async def test_ipv6_only_said(self) -> None:
        """A port that leaves out IPv4 is a warning."""
        said, status = await self.in_namespace(
            "-n", "-c", IPV6_ONLY.replace("serves http", "Only IPv6 clients can connect to http"),
            *MEMORY[:1], *MEMORY[2:], "--tls=no", "--listen=tcp6:0",
        )  # fmt: skip
        self.assertEqual(status, 0, said)
        self.assertIn("::1 can connect", said)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        port: int = made.getsockname()[1]
        return port
