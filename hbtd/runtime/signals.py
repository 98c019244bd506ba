"""Holds back signals that arrive before hbtd can handle them."""

import signal

_HELD = (signal.SIGHUP, signal.SIGTERM)
"""By default each would kill the process half-way through its start.

SIGINT is not one of them: whoever presses Ctrl-C wants a start that takes long to end.
"""


def hold_signals() -> None:
    """Block SIGHUP and SIGTERM: if one arrives, it waits until `deliver_signals` is called."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def deliver_signals() -> None:
    """Unblock SIGHUP and SIGTERM; if one has arrived since `hold_signals`, it is delivered now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
