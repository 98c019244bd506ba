"""The thread that writes the log, so that hbtd never waits for a slow disk or a stalled reader."""

import os
import select
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Condition, Thread
from typing import TextIO

MOST_WAITING = 16 * 1024 * 1024
"""The most bytes of lines that may wait to be written: enough to log a million nodes' deaths."""

_AT_ONCE = select.PIPE_BUF
"""The most bytes in a write of several lines: a pipe takes as many as a whole, or not at all."""

_RETRY_MS = 1000
"""Milliseconds between two attempts to write to a file that is in non-blocking mode."""


class LogWriter:
    """A writer of lines to a file descriptor, in a thread of its own.

    A write to a pipe whose reader has stalled, to journald's socket, or to a slow disk may block.
    So `write` only appends to a queue. Once the queue is full, lines are dropped and counted until
    the thread takes the lines from the queue. In place of the dropped lines, the thread writes a
    line that says how many were dropped. Lines are written whole, and in the order of the calls.
    """

    def __init__(
        self, descriptor: int, encoding: str, notice: Callable[[int], str], most: int = MOST_WAITING
    ) -> None:
        """Make a writer for an open file descriptor, which the writer never closes.

        `notice(count)`, called in the thread, returns a line that says that `count` lines were
        dropped. `most` is the limit of the queue in bytes: a line is accepted if fewer than `most`
        bytes are in the queue.
        """
        self._descriptor = descriptor
        self._encoding = encoding
        self._notice = notice
        self._most = most
        self._thread: Thread | None = None
        # Used only in the thread: whether what has been written ends with a line.
        self._at_line_start = True
        # Guards all of the following. It is reentrant: a destructor may log while it is held.
        self._changed = Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0  # with those that are being written
        self._writing = False
        self._dropped = 0  # since the thread last took the queue
        self._failed = 0  # lines that the system did not take, and that no notice has told of
        self.dropped_count = 0
        """The number of lines so far that were dropped, or that could not be written."""

    def write(self, line: str) -> None:
        """Queue a line, which must end in a line feed, or drop it if the queue is full."""
        encoded = self._encoded(line)
        with self._changed:
            # Nothing is accepted after a dropped line until the notice has its place.
            if self._dropped or self._waiting_bytes >= self._most:
                self._dropped += 1
                self.dropped_count += 1
            else:
                self._waiting.append(encoded)
                self._waiting_bytes += len(encoded)
                self._changed.notify_all()
            self._start()

    def flush(self, patience: float) -> None:
        """Block until all lines are written, for at most `patience` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending and not self._writing, patience)

    @property
    def _pending(self) -> bool:
        return bool(self._waiting or self._dropped)

    def _encoded(self, line: str) -> bytes:
        return line.encode(self._encoding, "backslashreplace")

    def _start(self) -> None:
        """Start the thread unless it runs; if no thread can be made, the next call tries again."""
        # After a fork, the child's thread is not alive.
        if self._thread is not None and self._thread.is_alive():
            return
        thread = Thread(target=self._run, name="hbtd-log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system's limit of threads is reached
            return
        self._thread = thread

    # The following methods run in the thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._pending)
                self._writing = True
                lines, self._waiting = self._waiting, deque()
                dropped, self._dropped = self._dropped, 0
                failed, self._failed = self._failed, 0
            self._tell(failed)
            for piece in _pieces(lines):
                self._write_piece(piece)
            self._tell(dropped)

    def _tell(self, count: int) -> None:
        """Write a line which says that `count` lines were dropped, unless `count` is 0.

        If that fails, the next such line counts these lines, too.
        """
        if count and not self._written(self._encoded(self._notice(count))):
            with self._changed:
                self._failed += count

    def _write_piece(self, lines: Sequence[bytes]) -> None:
        """Write some lines together; if that fails, count them as dropped."""
        piece = b"".join(lines)
        written = self._written(piece)
        with self._changed:
            self._waiting_bytes -= len(piece)
            if not written:
                self._failed += len(lines)
                self.dropped_count += len(lines)

    def _written(self, data: bytes) -> bool:
        """Write lines; return whether that succeeded."""
        try:
            if not self._at_line_start:  # a disk that was full has taken a part of a line
                self._write_all(b"\n")
            self._write_all(data)
        except OSError:  # the reader is gone, or the disk is full
            return False
        return True

    def _write_all(self, data: bytes) -> None:
        """Write bytes, however long that takes; raise `OSError` if that is not possible."""
        left = memoryview(data)
        while left:
            try:
                written = os.write(self._descriptor, left)
            except BlockingIOError:
                # Another process that has the same file open may have set it to non-blocking.
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll(_RETRY_MS)
                continue
            self._at_line_start = left[written - 1] == ord("\n")
            left = left[written:]


def _pieces(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Divide lines, in order, into lists of at most `_AT_ONCE` bytes each.

    A longer line is alone in a list.
    """
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > _AT_ONCE:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece


def writer_to(stream: TextIO | None, notice: Callable[[int], str]) -> LogWriter:
    """Return a writer of lines to the file of `stream`.

    If `stream` is `None`, the writer discards all lines. `notice` has the same meaning as for
    `LogWriter`.
    """
    if stream is None:  # as `sys.stderr` is, if the process began without standard error
        return LogWriter(os.open(os.devnull, os.O_WRONLY), "utf-8", notice)
    return LogWriter(stream.fileno(), stream.encoding, notice)
