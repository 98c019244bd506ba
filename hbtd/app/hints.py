"""Hints on what to do about an unusable file, for the end of an error message."""

import errno
import os
import pwd
from datetime import datetime, timezone
from pathlib import Path

_NOT_YET_VALID = " is not valid before "
"""The words in errors about certificates that are not valid yet (see `hbtd.net.chains`)."""


def file_hint(error: BaseException) -> str:
    """Return a hint about the file that an error is about, to be appended to the error's text.

    The hint is empty if neither the error nor one of its causes (`__cause__`) is an error of the
    operating system about a file, or if there is nothing to add to the text.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__
    path = None if found is None else found.filename2 or found.filename
    if found is None or not isinstance(path, str | bytes):
        return ""
    return path_hint(os.fsdecode(path), found.errno)


def clock_hint(text: str, now: float) -> str:
    """Return the time of this host's clock, as text to be appended to an error's text.

    `now` is that time, in seconds since the epoch. The result is empty unless `text`, the error's
    text, says that a certificate is not valid yet. The error's own text does not contain the time
    because errors with equal texts are logged only once.
    """
    if _NOT_YET_VALID not in text:
        return ""
    moment = datetime.fromtimestamp(now, timezone.utc)
    return f"; this host's clock says {moment.isoformat(timespec='seconds')}"


def path_hint(path: str, number: int | None = None) -> str:
    """Return a hint to append to an error about the file `path`, or an empty text.

    `number` is the error's `errno`. If it is `None`, the hint says what keeps the file from being
    created in its directory.
    """
    folder = Path(os.path.abspath(path)).parent
    if number in (errno.ENOENT, None) and not folder.is_dir():
        return f"; there is no directory {folder}: create it, or name another"
    if number is None and os.path.isdir(path):
        return "; this is a directory: name a file in it"
    if number is None and not os.access(folder, os.W_OK | os.X_OK):
        return f"; {_user()} may not write to the directory {folder}: change its owner or mode"
    if number == errno.EACCES:
        return f"; {_user()} may not: change the owner or mode of the file, or of its directories"
    return ""


def _user() -> str:
    """Return the effective user of this process, in words for a hint."""
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"
