"""The exit statuses of commands, and an exception for each kind of failure."""

YES = 0
"""Exit status: the command succeeded; the answer to its question, if any, is yes."""
NO = 1
"""Exit status: the answer is no, such as when a component is not tracked."""
USAGE = 2
"""Exit status: the command line, or a file that it names, can't be used."""
UNREACHABLE = 3
"""Exit status: hbtd can't be reached, or its certificate is not trusted."""
REFUSED = 4
"""Exit status: hbtd refuses a request (HTTP 401, 403): credentials are missing or don't suffice."""
BROKEN = 5
"""Exit status: hbtd can't do what was requested at present, or its answer is invalid."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, except for commands that run until Ctrl-C."""

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
    """Raised when a command can't do what was requested; the message says why, in one line."""

    status = BROKEN


class Misused(Failure):
    """Raised when the command line, or a file that it names, can't be used."""

    status = USAGE


class Unreachable(Failure):
    """Raised when hbtd can't be reached, or its certificate is not trusted."""

    status = UNREACHABLE


class Refused(Failure):
    """Raised when hbtd refuses a request: credentials are missing, or do not permit the request."""

    status = REFUSED


class Busy(Failure):
    """Raised when hbtd can't do what was requested at present; another attempt may succeed."""
