"""Reasons why hbtd can't start, and the exit statuses that they lead to."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.errors import CAN_PASS, UNEXPECTED, WRONG_OPTION, StartupError, exit_status, naming
from hbtd.net.tls import TLSUnusable
from hbtd.store.interface import NotLeading, StoreUnusable
from hbtd.store.sqlite_file import StoreDamaged


class StatusTests(SynchronousTestCase):
    """Whether a reason can pass."""

    def test_values(self) -> None:
        """The statuses are those that the documents and the unit name."""
        self.assertEqual((UNEXPECTED, WRONG_OPTION, CAN_PASS), (1, 2, 75))

    def test_store(self) -> None:
        """A store that can't be used may be usable later; any other error is unexpected."""
        for error in (StoreDamaged("x"), StoreUnusable("x"), NotLeading("x")):
            self.assertEqual(exit_status(error), CAN_PASS)
        for other in (RuntimeError("x"), None):
            self.assertEqual(exit_status(other), UNEXPECTED)

    def test_naming(self) -> None:
        """Files and the system may be otherwise later, a value that can't be understood may not."""
        for error, status, text in (
            (TLSUnusable("/ca.pem can't be read"), CAN_PASS, "--x: /ca.pem can't be read"),
            (OSError(24, "Too many open files"), CAN_PASS, "--x='v' can't be used: Too many"),
            (OSError("odd"), CAN_PASS, "--x='v' can't be used: odd"),
            (ValueError("bad"), WRONG_OPTION, "--x='v' can't be used: ValueError: bad"),
            (StartupError("it passes", passing=True), CAN_PASS, "it passes"),
        ):
            with self.assertRaises(StartupError) as raised, naming("--x", "v"):
                raise error
            self.assertEqual(raised.exception.status, status, text)
            self.assertIn(text, str(raised.exception))
