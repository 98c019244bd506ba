"""The host on which hbtd runs: its clocks, its source of random numbers, and its name."""

import random
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from hbtd.runtime.reactor import elapsed_seconds


class Host(NamedTuple):
    """The clocks of a host, its source of random numbers, and its name; by default, the real ones.

    All fields are functions. The constructor of hbtd's service takes a `Host`, and passes to each
    part of hbtd those functions that the part needs.
    """

    elapsed: Callable[[], float] = elapsed_seconds
    """A function that returns the seconds of a monotonic clock.

    The clock also advances while the host is suspended.
    """
    wall: Callable[[], float] = time.time
    """A function that returns the Unix time in seconds."""
    processor: Callable[[], float] = time.thread_time
    """A function that returns the seconds of processor time that the calling thread has used."""
    random: Callable[[], float] = random.random
    """A function that returns a random number from 0 to 1."""
    name: Callable[[], str] = socket.gethostname
    """A function that returns the host's name."""
