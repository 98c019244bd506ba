"""The writer of the log: it never blocks its callers, and says what it had to drop."""

import os
import select
import sys
import threading
from collections.abc import Callable
from fcntl import F_SETPIPE_SZ, fcntl
from time import monotonic

from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.log_writer import LogWriter, writer_to

PATIENCE = 10.0


def notice(count: int) -> str:
    """Return the line about dropped lines."""
    return f"{count} missing\n"


def waited(condition: Callable[[], object]) -> None:
    """Wait for the writer's thread to make a condition true."""
    deadline = monotonic() + PATIENCE
    while not condition():
        if monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s")
        threading.Event().wait(0.01)


class PipeTests(SynchronousTestCase):
    """The log goes into a pipe, whose reader may stall or go away."""

    def setUp(self):
        """Make a pipe that holds a page."""
        self.reader, self.end = os.pipe()
        fcntl(self.end, F_SETPIPE_SZ, select.PIPE_BUF)
        self.addCleanup(self.close, "end")
        self.addCleanup(self.close, "reader")

    def close(self, name: str) -> None:
        """Close an end of the pipe, unless that was done before."""
        descriptor, closed = getattr(self, name), -1
        setattr(self, name, closed)
        if descriptor != closed:
            os.close(descriptor)

    def writer(self, most: int = 100_000) -> LogWriter:
        """Return a writer into the pipe."""
        return LogWriter(self.end, "utf-8", notice, most)

    def read(self, last: str) -> list[str]:
        """Read the pipe up to the end of a line, and return all lines."""
        said = b""
        deadline = monotonic() + PATIENCE
        while not said.endswith(last.encode() + b"\n"):
            said += self.read_some(deadline)
        return said.decode().splitlines()

    def read_some(self, deadline: float) -> bytes:
        """Read what there is; wait for that until `deadline`."""
        ready, _, _ = select.select([self.reader], [], [], max(deadline - monotonic(), 0.0))
        self.assertTrue(ready, "nothing more is written")
        return os.read(self.reader, 1000)

    def test_order(self) -> None:
        """Lines arrive whole and in order, although the pipe is much smaller than all of them."""
        writer = self.writer()
        sent = [f"{number} {'x' * (number * 7 % 6000)}" for number in range(30)]
        for line in sent:
            writer.write(f"{line}\n")
        self.assertEqual(self.read(sent[-1]), sent)
        self.assertEqual(writer.dropped_count, 0)

    def test_stalled(self) -> None:
        """While nobody reads, nobody waits; what did not fit is counted, and said in its place."""
        writer = self.writer(most=20_000)
        began = monotonic()
        for number in range(1000):
            writer.write(f"{number:099}\n")
        self.assertLess(monotonic() - began, PATIENCE / 2)
        dropped = writer.dropped_count
        self.assertGreater(dropped, 700)
        self.assertLess(dropped, 900)
        number = missing = 0
        left, deadline = b"", monotonic() + PATIENCE
        while number < 1000:  # the thread may have taken the queue more than once
            *lines, left = (left + self.read_some(deadline)).split(b"\n")
            for line in lines:
                count, _, is_notice = line.decode().partition(" ")
                if is_notice:
                    missing += int(count)
                    number += int(count)
                else:
                    self.assertEqual(int(line), number)
                    number += 1
        self.assertEqual((missing, number), (dropped, 1000))
        writer.write("on we go\n")
        self.assertEqual(self.read("on we go"), ["on we go"])
        self.assertEqual(writer.dropped_count, dropped)

    def test_place_of_the_notice(self) -> None:
        """Each notice is where its lines are missing, however reading and dropping take turns."""
        writer = self.writer(most=8000)
        said, number, dropped = b"", 0, 0
        for amount in (1000, 5000, 4096, 20, 12000, 7000) * 5:
            while writer.dropped_count == dropped:
                writer.write(f"{number:0999}\n")
                number += 1
            dropped = writer.dropped_count
            for _ in range(amount // 1000):
                said += os.read(self.reader, 1000)
                writer.write(f"{number:0999}\n")
                number += 1
        # All that waits is read, so that there is room for the last line.
        while writer._waiting_bytes or select.select([self.reader], [], [], 0)[0]:
            # What waits may have been read already, when the thread has yet to note that.
            if select.select([self.reader], [], [], 0.01)[0]:
                said += os.read(self.reader, 1000)
        writer.write("end\n")
        lines = said.decode().splitlines() + self.read("end")
        due = 0
        for line in lines[:-1]:
            if line.endswith(" missing"):
                due += int(line.split()[0])
            else:
                self.assertEqual(int(line), due)
                due += 1
        self.assertEqual(due, number)

    def test_flush(self) -> None:
        """`flush` waits until all is written, and for no longer than it may."""
        writer = self.writer()
        writer.write("short\n")
        writer.flush(PATIENCE)
        self.assertEqual(os.read(self.reader, 1000), b"short\n")
        writer.write("x" * 9000 + "\n")
        began = monotonic()
        writer.flush(0.2)
        self.assertGreaterEqual(monotonic() - began, 0.19)
        self.assertLess(monotonic() - began, PATIENCE)
        self.read("x" * 9000)

    def test_reader_gone(self) -> None:
        """When the reader is gone, lines are dropped and counted."""
        writer = self.writer()
        self.close("reader")
        writer.write("lost\n")
        waited(lambda: writer.dropped_count == 1)
        writer.write("lost, too\n")
        waited(lambda: writer.dropped_count == 2)

    def test_non_blocking(self) -> None:
        """Another process may have set the pipe to non-blocking: lines wait, and stay whole."""
        os.set_blocking(self.end, False)
        writer = self.writer()
        sent = [f"{number} {'x' * 3000}" for number in range(10)]
        for line in sent:
            writer.write(f"{line}\n")
        self.assertEqual(self.read(sent[-1]), sent)
        self.assertEqual(writer.dropped_count, 0)

    def test_no_thread(self) -> None:
        """If no thread can be made, lines wait until one can be made."""
        writer = self.writer()

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        before = threading.Thread.start
        self.patch(threading.Thread, "start", refuse)
        writer.write("first\n")
        self.patch(threading.Thread, "start", before)
        writer.write("second\n")
        self.assertEqual(self.read("second"), ["first", "second"])

    def test_cut_short(self) -> None:
        """If the process ends while the pipe is full, what is in the pipe are whole lines."""
        writer = self.writer()
        start = threading.Thread.start
        # Without the thread, all of them are waiting when it begins.
        self.patch(threading.Thread, "start", lambda thread: None)
        for number in range(200):
            writer.write(f"{number:0150}\n")
        self.patch(threading.Thread, "start", start)
        writer.write("last\n")
        waited(lambda: select.select([self.reader], [], [], 0)[0])
        writer.flush(0.2)
        self.assertEqual(os.read(self.reader, 1_000_000)[-1:], b"\n")
        self.read("last")

    def test_encoding(self) -> None:
        """What the encoding of the log lacks is escaped."""
        LogWriter(self.end, "ascii", notice).write("Gr\u00fc\u00dfe \udce9\n")
        self.assertEqual(self.read("\\udce9"), ["Gr\\xfc\\xdfe \\udce9"])


class FileTests(SynchronousTestCase):
    """The log goes into a file."""

    def test_full_disk(self) -> None:
        """After a full disk has cut a line, the next one begins anew, behind a notice."""
        path = self.mktemp()
        script = (
            "import os, resource, signal, sys\n"
            "from hbtd.runtime.log_writer import LogWriter\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"out = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
            "writer = LogWriter(out, 'utf-8', lambda count: f'{count} missing\\n')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (15, resource.RLIM_INFINITY))\n"
            "for line in ('whole\\n', 'this is cut\\n', 'lost\\n'):\n"
            "    writer.write(line)\n"
            "    writer.flush(10)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
            "writer.write('again\\n')\n"
            "writer.flush(10)\n"
            "assert writer.dropped_count == 2, writer.dropped_count\n"
        )
        status = os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script])
        self.assertEqual(status, 0)
        with open(path) as file:
            self.assertEqual(file.read(), "whole\nthis is c\n2 missing\nagain\n")

    def test_nowhere(self) -> None:
        """A process without standard error has its log go nowhere."""
        writer = writer_to(None, notice)
        self.addCleanup(os.close, writer._descriptor)
        writer.write("unheard\n")
        writer.flush(PATIENCE)
        self.assertEqual(writer.dropped_count, 0)
