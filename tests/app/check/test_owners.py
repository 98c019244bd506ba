"""What a running unit of hbtd holds is free for its successor; what others hold is not."""

import errno
import fcntl
import os
import shutil
import socket
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.check.findings import Findings
from hbtd.app.check.owners import Owners
from hbtd.app.check.ports import ProbingReactor, check_ports
from hbtd.app.check.store import check_store
from hbtd.config.params import Params
from tests.support.short_paths import short_folder

UNIT = "0::/system.slice/hbtd.service\n"


class OwnersTestCase(SynchronousTestCase):
    """A file and a port that a process of this test holds, and what the kernel says of it."""

    def setUp(self) -> None:
        """Lock a file, and listen on a port and on a Unix socket's path."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        self.path = folder / "hbtd.sqlite"
        self.path.touch()
        self.lock = os.open(self.path, os.O_RDWR)
        self.addCleanup(os.close, self.lock)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.socket.close)
        self.port = self.socket.getsockname()[1]
        self.proc = folder / "proc"
        self.said: list[str] = []
        self.findings = Findings(self.said.append)

    def in_unit(self, cgroup: str = UNIT) -> Owners:
        """Return owners by whom this process is in another control group."""
        pid = os.getpid()
        (self.proc / str(pid) / "fd").mkdir(parents=True)
        (self.proc / str(pid) / "cgroup").write_text(cgroup)
        for each in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{each}")
            except OSError:
                continue
            (self.proc / str(pid) / "fd" / each).symlink_to(target)
        (self.proc / "locks").write_text(Path("/proc/locks").read_text())
        (self.proc / "net").mkdir()
        for table in ("tcp", "tcp6"):
            content = Path(f"/proc/net/{table}").read_text()
            (self.proc / "net" / table).write_text(content)
        return Owners(self.proc)


class OwnersTests(OwnersTestCase):
    """Who holds what."""

    def test_real(self) -> None:
        """The kernel names the process that holds a lock, and the one that holds a port."""
        owners = Owners()
        self.assertEqual(owners.lock_holder(str(self.path)), os.getpid())
        self.assertEqual(owners.port_holders(self.port), [os.getpid()])
        fcntl.flock(self.lock, fcntl.LOCK_UN)
        self.socket.close()
        self.assertIsNone(owners.lock_holder(str(self.path)))
        self.assertEqual(owners.port_holders(self.port), [])

    def test_units(self) -> None:
        """Units of hbtd are known by their names, in both kinds of control groups."""
        owners = self.in_unit()
        path = self.proc / str(os.getpid()) / "cgroup"
        for text, unit in {
            UNIT: "hbtd.service",
            "0::/system.slice/system-hbtd.slice/hbtd@b.service/x\n": "hbtd@b.service",
            "1:name=systemd:/system.slice/hbtd.service\n0::/\n": "hbtd.service",
            "0::/system.slice/other.service\n": "",
            "0::/user.slice/hbtd.service.d\n": "",
            "": "",
        }.items():
            path.write_text(text)
            self.assertEqual(owners.unit_of(os.getpid()), unit, text)

    def test_nothing_to_see(self) -> None:
        """Without /proc nobody is known to hold anything."""
        owners = Owners(self.proc / "nowhere")
        self.assertIsNone(owners.lock_holder(str(self.path)))
        self.assertEqual(owners.port_holders(self.port), [])
        self.assertEqual(owners.unit_of(1), "")


class RestartTests(OwnersTestCase):
    """A check before a restart."""

    def check(self, owners: Owners, *, store: str = "") -> None:
        """Check store and port."""
        params = Params(kv_url=f"sqlite:{store or self.path}", port=self.port, address="127.0.0.1")
        check_store(params, self.findings, owners)
        check_ports(params, self.findings, owners)

    def test_unit(self) -> None:
        """A file and a port of the running unit are no errors, and it is named."""
        self.check(self.in_unit())
        self.assertEqual(self.findings.status, 0, self.said)
        pid = os.getpid()
        said = "\n".join(self.said)
        self.assertIn(f"hbtd.sqlite; hbtd.service, process {pid}, uses it", said)
        self.assertIn(f"port {self.port} of 127.0.0.1; hbtd.service, process {pid}", said)

    def test_passed_socket(self) -> None:
        """A socket of systemd's is no error, whether the unit runs, which has it too, or not."""
        owners = self.in_unit()
        mine = self.proc / str(os.getpid())
        shutil.copytree(mine / "fd", self.proc / "1" / "fd", symlinks=True)
        (self.proc / "1" / "cgroup").write_text("0::/init.scope\n")
        self.check(owners)
        self.assertIn(f"hbtd.service, process {os.getpid()}, listens there", self.said[-1])
        shutil.rmtree(mine)
        again = Findings(self.said.append)
        check_ports(Params(port=self.port, address="127.0.0.1"), again, owners)
        self.assertIn("systemd listens there, and has to pass the socket", self.said[-1])
        self.assertEqual((self.findings.status, again.status), (0, 0))

    def test_others(self) -> None:
        """Those of another program, or of an hbtd that is no unit, are."""
        self.check(self.in_unit("0::/user.slice/session-1.scope\n"))
        self.assertEqual(self.findings.status, 75, self.said)
        said = "\n".join(self.said)
        self.assertIn(f"the file is locked by process {os.getpid()}", said)
        self.assertIn(f"port {self.port} of 127.0.0.1: Address already in use", said)

    def test_unseen(self) -> None:
        """Of a port whose holder can't be seen, the check says what it takes to see it."""
        owners = self.in_unit()
        shutil.rmtree(self.proc / str(os.getpid()) / "fd")
        check_ports(Params(port=self.port, address="127.0.0.1"), self.findings, owners)
        self.assertEqual(self.findings.status, 75)
        self.assertIn("whether the running unit has it takes root or CAP_SYS_PTRACE", self.said[-1])

    def test_unix_socket(self) -> None:
        """A Unix socket is in use while the process in its lock lives, unless it is the unit's."""
        path = str(short_folder(self) / "socket")
        os.symlink(str(os.getpid()), f"{path}.lock")
        params = Params(listen=f"unix:{path}", tls=False)
        check_ports(params, self.findings, Owners())
        self.assertEqual(self.findings.status, 75, self.said)
        again = Findings(self.said.append)
        check_ports(params, again, self.in_unit())
        self.assertEqual(again.status, 0, self.said)
        self.assertIn(f"unix:{path}; hbtd.service, process {os.getpid()}", self.said[-1])


class ProbeTests(OwnersTestCase):
    """To look whether a port is free keeps nobody from it."""

    def test_concurrent_start(self) -> None:
        """While the check has a port bound, an hbtd that starts can bind it, and listen there."""
        started: list[int] = []

        class Watched(socket.socket):
            """A socket that sees to it that it can be shared as soon as it is bound."""

            def bind(self, address: Any) -> None:
                super().bind(address)
                with socket.create_server(address) as starting:
                    started.append(starting.getsockname()[1])

            def listen(self, backlog: int = 0) -> None:
                raise AssertionError("a check listens")

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ProbingReactor(Owners(self.proc), Watched).bind(port, "127.0.0.1")
        self.assertEqual(started, [port])

    def test_taken(self) -> None:
        """A port on which somebody listens is found to be in use."""
        with self.assertRaises(CannotListenError) as raised:
            ProbingReactor(Owners(self.proc)).bind(self.port, "127.0.0.1")
        self.assertEqual(raised.exception.socketError.errno, errno.EADDRINUSE)

    def test_dual_stack(self) -> None:
        """A port of all addresses is taken by a listener on one of IPv4, whatever the default."""

        class SixOnly(socket.socket):
            """A socket of a host that has net.ipv6.bindv6only set."""

            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

        reactor = ProbingReactor(Owners(self.proc), SixOnly)
        with self.assertRaises(CannotListenError):
            reactor.bind(self.port, "::", both=True)
        params = Params(kv_url="mem:", port=self.port)
        check_ports(params, self.findings, Owners(self.proc))
        self.assertEqual(self.findings.status, 75, self.said)
