"""What is measured."""

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.measures import megabytes, metrics, process


class ProcessTests(SynchronousTestCase):
    """What a process needs."""

    def test_own(self) -> None:
        """Open files and connections of a process are counted, not listening sockets."""
        before = process(os.getpid())
        self.assertGreater(before["rss_mb"], 5)
        self.assertGreaterEqual(before["threads"], 1)
        with socket.create_server(("127.0.0.1", 0)) as server:
            listening = process(os.getpid())
            with socket.create_connection(server.getsockname()), server.accept()[0]:
                after = process(os.getpid())
        self.assertEqual(listening["connections"], before["connections"])
        self.assertEqual(after["connections"] - before["connections"], 2)
        self.assertEqual(after["fds"] - before["fds"], 3)

    def test_ended(self) -> None:
        """Of a process that is not there nothing is said."""
        self.assertEqual(process(1, Path(self.mktemp())), {})


class SizeTests(SynchronousTestCase):
    """The size of files."""

    def test_megabytes(self) -> None:
        """That of a folder is the sum of its files'; what is not there has none."""
        folder = Path(self.mktemp())
        (folder / "in").mkdir(parents=True)
        (folder / "a").write_bytes(bytes(500_000))
        (folder / "in" / "b").write_bytes(bytes(1_000_000))
        self.assertEqual(megabytes(folder), 1.5)
        self.assertEqual(megabytes(folder / "a"), 0.5)
        self.assertEqual(megabytes(folder / "c"), 0.0)


class MetricsTests(SynchronousTestCase):
    """What an hbtd says of itself."""

    def test_metrics(self) -> None:
        """Values are found by name, those with labels summed; what is not there is left out."""
        text = '# HELP a b\na 1.5\nb{x="1"} 2\nb{x="2"} 3\nbc 7\n'
        self.assertEqual(metrics(text, {"one": "a", "two": "b", "no": "d"}), {"one": 1.5, "two": 5})
