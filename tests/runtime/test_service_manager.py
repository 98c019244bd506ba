"""What systemd passes to a process in its environment, and the socket for messages to it."""

import os
import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.service_manager import NotifySocket, passed_sockets, watchdog_period
from tests.support.short_paths import short_folder

VALUES = st.one_of(st.text(max_size=30), st.integers().map(str))


class EnvironmentTests(SynchronousTestCase):
    """What the environment says counts only for the process that it is meant for."""

    def test_sockets(self) -> None:
        """Sockets begin with file descriptor 3."""
        self.assertEqual(list(passed_sockets({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 7)), [3, 4])

    def test_other_process(self) -> None:
        """Sockets that were passed to a parent, or to nobody, and no sockets, are none."""
        for environ in (
            {"LISTEN_PID": "6", "LISTEN_FDS": "2"},
            {"LISTEN_FDS": "2"},
            {"LISTEN_PID": "7"},
            {"LISTEN_PID": "7", "LISTEN_FDS": "0"},
        ):
            self.assertEqual(list(passed_sockets(environ, 7)), [], environ)

    def test_names_not_needed(self) -> None:
        """Sockets need no names, and may have any."""
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b:c"}
        self.assertEqual(list(passed_sockets(environ, 7)), [3])

    def test_watchdog(self) -> None:
        """The watchdog's time is in microseconds, and may be for a certain process."""
        self.assertEqual(watchdog_period({"WATCHDOG_USEC": "120000000"}, 7), 120.0)
        for pid, seconds in (("7", 2.0), ("8", None), ("", None), ("7x", None)):
            environ = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": pid}
            self.assertEqual(watchdog_period(environ, 7), seconds, pid)

    @given(VALUES, VALUES)
    def test_garbage(self, first: str, second: str) -> None:
        """Whatever the values are, nothing is raised, and no time is zero or negative."""
        passed_sockets({"LISTEN_PID": first, "LISTEN_FDS": second}, 7)
        seconds = watchdog_period({"WATCHDOG_USEC": first, "WATCHDOG_PID": second}, 7)
        self.assertTrue(seconds is None or seconds > 0)
        seconds = watchdog_period({"WATCHDOG_USEC": first}, 7)
        self.assertTrue(seconds is None or seconds > 0)

    def test_too_many(self) -> None:
        """A number of sockets that can't be is none."""
        for count in ("1025", "-1", "1e3", "٣", " 1", "9" * 5000):
            environ = {"LISTEN_PID": "7", "LISTEN_FDS": count}
            self.assertEqual(list(passed_sockets(environ, 7)), [], count[:9])


class NotifySocketTests(SynchronousTestCase):
    """Messages arrive, and what can't be sent is an error at once."""

    def receiver(self, address: str) -> socket.socket:
        """Receive messages at an address."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(made.close)
        made.bind(address)
        made.settimeout(5)
        return made

    def test_path(self) -> None:
        """A message is sent to a path, also after that was away for a while."""
        address = str(short_folder(self) / "notify")
        sender = NotifySocket(address)
        self.assertRaises(OSError, sender.send, "READY=1")
        receiver = self.receiver(address)
        sender.send("READY=1\nSTATUS=grün")
        self.assertEqual(receiver.recv(100).decode(), "READY=1\nSTATUS=grün")

    def test_abstract(self) -> None:
        """A name that begins with @ is of the abstract namespace."""
        name = f"hbtd-test-{os.getpid()}"
        receiver = self.receiver(f"\0{name}")
        NotifySocket(f"@{name}").send("READY=1")
        self.assertEqual(receiver.recv(100), b"READY=1")

    def test_garbage(self) -> None:
        """An address that is none is refused, or fails when something is sent; it never waits."""
        for address in ("relative", "@", "/", "vsock:2:3", "/a\0b", "\0x"):
            self.assertRaises(ValueError, NotifySocket, address)
        for address in ("/dev/null", "/nowhere/at/all"):
            self.assertRaises(OSError, NotifySocket(address).send, "READY=1")

    def test_too_long(self) -> None:
        """An address that no socket can have is refused, one that a socket can have never is."""
        for first in "/@":
            raised = self.assertRaises(ValueError, NotifySocket, first + "ü" * 54)
            self.assertIn("too long for a Unix socket: name one of 107 at most", str(raised))
        folder = str(short_folder(self))
        longest = f"{folder}/{'x' * (107 - len(folder) - 1)}"
        name = f"{os.getpid()}".ljust(107, "x")
        for address, bound in ((longest, longest), (f"@{name}", f"\0{name}")):
            receiver = self.receiver(bound)
            NotifySocket(address).send("READY=1")
            self.assertEqual(receiver.recv(100), b"READY=1")

    def test_full(self) -> None:
        """If the receiver reads nothing, sending fails instead of waiting."""
        name = f"\0hbtd-test-{os.getpid()}-full"
        self.receiver(name)
        sender = NotifySocket("@" + name[1:])

        def fill() -> None:
            for _ in range(100_000):
                sender.send("x" * 1000)

        self.assertRaises(BlockingIOError, fill)
