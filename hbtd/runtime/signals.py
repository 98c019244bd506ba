"""Blocking of signals that arrive before hbtd can handle them."""

import signal

_HELD = (signal.SIGHUP, signal.SIGTERM)
"""The signals that are blocked: by default, each would kill the process during its start.

SIGINT is not blocked: whoever presses Ctrl-C during a long start wants to end the start.
"""


def hold_signals() -> None:
    """Block SIGHUP and SIGTERM: if one arrives, it waits until `deliver_signals` is called."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def deliver_signals() -> None:
    """Unblock SIGHUP and SIGTERM; if one has arrived since `hold_signals`, it is delivered now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
