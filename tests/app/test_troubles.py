"""Why parts do not work, and since when; and what would do where a file can't be used."""

import errno
import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.errors import StartupError, naming_files
from hbtd.app.hints import file_hint, path_hint
from hbtd.app.stores import describe_store, store_hint
from hbtd.app.troubles import Troubles
from hbtd.net.tls import TLSUnusable

NOON = 1785153600.0  # on 27 July 2026


class TroublesTests(SynchronousTestCase):
    """What does not work is remembered with the time since when."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reasons: dict[str, str | None] = {"a": None, "b": None}
        self.troubles = Troubles(
            self.clock,
            lambda: NOON + self.clock.seconds(),
            {name: lambda name=name: self.reasons[name] for name in self.reasons},  # type: ignore[misc]
        )
        self.troubles.startService()
        self.addCleanup(self.troubles.stopService)

    def test_since(self) -> None:
        """The text has the latest reason, and the time since when there has been any."""
        self.assertEqual(self.troubles.texts(), {})
        self.clock.pump([1.0] * 5)
        self.reasons["a"] = "refused"
        self.clock.pump([1.0] * 60)
        self.reasons["a"] = "timed out"
        said = "since 2026-07-27T12:00:06+00:00: timed out"
        self.assertEqual(self.troubles.texts(), {"a": said})
        self.reasons.update(a=None, b="broken")
        said = "since 2026-07-27T12:01:05+00:00: broken"
        self.assertEqual(self.troubles.texts(), {"b": said})

    def test_anew(self) -> None:
        """After it has worked, the time begins anew, though nobody asked meanwhile."""
        self.reasons["a"] = "refused"
        self.clock.pump([1.0] * 5)
        self.reasons["a"] = None
        self.clock.pump([1.0] * 2)
        self.reasons["a"] = "refused"
        self.clock.pump([1.0] * 5)
        said = "since 2026-07-27T12:00:08+00:00: refused"
        self.assertEqual(self.troubles.texts(), {"a": said})


class HintTests(SynchronousTestCase):
    """What would do where a file can't be used."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)

    def error(self, path: Any) -> OSError:
        """Return the error of opening a file."""
        try:
            open(path).close()
        except OSError as error:
            return error
        raise AssertionError(f"{path} can be opened")

    def test_missing_directory(self) -> None:
        """A directory that is missing is named; a file that is missing needs no hint."""
        missing = self.folder / "nowhere"
        said = f"; there is no directory {missing}: create it, or name another"
        self.assertEqual(file_hint(self.error(missing / "x.pem")), said)
        self.assertEqual(file_hint(self.error(os.fsencode(missing / "x.pem"))), said)
        self.assertEqual(file_hint(self.error(missing)), "")
        self.assertEqual(store_hint(f"sqlite:{missing}/x.sqlite"), said)

    def test_causes(self) -> None:
        """The error that another was raised from is looked at, too."""
        try:
            try:
                open(self.folder / "nowhere" / "x.pem").close()
            except OSError as error:
                raise ValueError("can't be read") from error
        except ValueError as error:
            self.assertIn("there is no directory", file_hint(error))
        self.assertEqual(file_hint(ValueError("odd")), "")
        self.assertEqual(file_hint(OSError(errno.ENOENT, "no file")), "")

    def test_denied(self) -> None:
        """Without permission, the user is named who has none."""
        hint = path_hint(str(self.folder / "key.pem"), errno.EACCES)
        self.assertRegex(hint, r"^; user \S+ may not: change the owner or mode of the file")

    def test_store(self) -> None:
        """SQLite says too little of a file that it can't open."""
        said = "; this is a directory: name a file in it"
        self.assertEqual(store_hint(f"sqlite:{self.folder}"), said)
        self.patch(os, "access", lambda *_: False)
        hint = store_hint(f"sqlite:{self.folder}/x.sqlite")
        self.assertRegex(hint, r"^; user \S+ may not write to the directory ")
        for other in ("mem:", "http://etcd:2379"):
            self.assertEqual(store_hint(other), "")

    def test_option(self) -> None:
        """Of several options, the one is named whose file the error is about."""
        files = {"--cert": "/a/cert.pem", "--key": "/a/key.pem", "--ca": ""}
        for said, options in (
            ("/a/key.pem can't be read", "--key"),
            ("/a/key.pem is not the key of the certificate in /a/cert.pem", "--cert, --key"),
            ("something else", "--cert, --key, --ca"),
        ):
            with self.assertRaises(StartupError) as raised, naming_files(files):
                raise TLSUnusable(said)
            self.assertEqual(str(raised.exception), f"{options}: {said}")


class DescribeStoreTests(SynchronousTestCase):
    """The store in the first line of the log."""

    def test_described(self) -> None:
        """Each kind is named, with the whole path of a file."""
        for kv_url, words in (
            ("mem:", "only in memory, which a restart forgets"),
            ("sqlite:/var/lib/hbtd.sqlite", "in the file /var/lib/hbtd.sqlite"),
            ("sqlite:x", f"in the file {os.getcwd()}/x"),
            ("https://a:1,https://b:2", "in etcd at https://a:1, https://b:2"),
        ):
            self.assertEqual(describe_store(kv_url), words)
