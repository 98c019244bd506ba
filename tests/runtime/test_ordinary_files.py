"""Files that users name: only ordinary ones are read, and nobody is waited for."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.ordinary_files import read_ordinary


class OrdinaryFileTests(SynchronousTestCase):
    """What can be at the end of a path."""

    def setUp(self) -> None:
        """Make a directory."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "file"

    def refused(self, path: object = None) -> str:
        """Return why a file is not read."""
        error = self.assertRaises(OSError, read_ordinary, str(path or self.path), 10)
        self.assertEqual(error.filename, str(path or self.path))
        return str(error.strerror)

    def test_ordinary(self) -> None:
        """A file of as many bytes as may be is returned with its mode, also by a link to it."""
        self.path.write_bytes(b"x" * 10)
        self.path.chmod(0o604)
        (self.folder / "link").symlink_to("file")
        for path in (self.path, self.folder / "link"):
            content, mode = read_ordinary(str(path), 10)
            self.assertEqual((content, mode & 0o777), (b"x" * 10, 0o604))

    def test_too_large(self) -> None:
        """Of a larger file, a terabyte here, no more is read than it takes to know that."""
        self.path.touch()
        os.truncate(self.path, 1 << 40)
        self.assertEqual(self.refused(), "it has more than 10 bytes")

    def test_no_file(self) -> None:
        """Directories, devices and what is not there are refused."""
        self.assertIn("Is a directory", self.refused(self.folder))
        self.assertIn("no ordinary file", self.refused("/dev/null"))
        self.assertIn("No such file", self.refused())

    def test_pipe(self) -> None:
        """A pipe is refused, whatever is in it."""
        os.mkfifo(self.path)
        writer = os.open(self.path, os.O_RDWR)
        self.addCleanup(os.close, writer)
        os.write(writer, b"x" * 11)
        self.assertIn("no ordinary file", self.refused())
