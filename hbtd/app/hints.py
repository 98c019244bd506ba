"""What would do where a file can't be used: hints that follow an error in its line."""

import errno
import os
import pwd
from pathlib import Path


def file_hint(error: BaseException) -> str:
    """Return a hint, to be appended to the text of an error that the system has caused.

    It is empty if the error, and those that it was raised from, are not about a file, or if the
    text says it all.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__
    path = None if found is None else found.filename2 or found.filename
    if found is None or not isinstance(path, str | bytes):
        return ""
    return path_hint(os.fsdecode(path), found.errno)


def path_hint(path: str, number: int | None = None) -> str:
    """Return a hint, to be appended to an error with this `errno` about a file; empty for none.

    Without an `errno`, the hint is what is wrong with the file's folder, in which it is created.
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
    """Return the user that this process acts as."""
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"
