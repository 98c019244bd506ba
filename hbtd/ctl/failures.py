"""What can go wrong with a command, each with the exit status that scripts see."""

YES = 0
"""It worked, and the answer is yes."""
NO = 1
"""The answer is no: a component is not known, is not in the state, or not in time."""
USAGE = 2
"""The command line, or something that it names, can't be used."""
UNREACHABLE = 3
"""hbtd can't be reached, or proves to be somebody else."""
REFUSED = 4
"""hbtd says that the caller may not do this."""
BROKEN = 5
"""hbtd can't do it at present, or answers what it should not."""
INTERRUPTED = 130
"""Ctrl-C, except for commands that run until then."""

MEANINGS = (
    (YES, "yes: it was done, or is as asked"),
    (NO, "no: a component is not known, not in the state, or was not in time"),
    (USAGE, "the command line can't be used, or hbtd says so of what it got (400)"),
    (UNREACHABLE, "hbtd can't be reached, or its certificate is not trusted"),
    (REFUSED, "hbtd refuses: credentials are missing or don't suffice (401, 403)"),
    (BROKEN, "hbtd can't do it now, or the answer is not one of hbtd's"),
    (INTERRUPTED, "interrupted by Ctrl-C"),
)
"""Each exit status with its meaning, for `--help` and the manual page."""


class Failure(Exception):
    """A command could not do what it was asked to; the message says why, in one line."""

    status = BROKEN


class Misused(Failure):
    """The command line, or something that it names, can't be used."""

    status = USAGE


class Unreachable(Failure):
    """hbtd can't be reached."""

    status = UNREACHABLE


class Refused(Failure):
    """hbtd refuses a request: credentials are missing, or do not permit it."""

    status = REFUSED


class Busy(Failure):
    """hbtd can't do what was requested at present; another attempt may succeed."""
