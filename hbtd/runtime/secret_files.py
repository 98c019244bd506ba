"""A check of who may read or write files that contain secrets."""

from twisted.logger import Logger

_log = Logger()


def warn_of_readers(path: str, mode: int) -> None:
    """Log a warning if every user of this host has access to a file that contains secrets.

    `mode` is the file's mode, as in the result of `os.fstat`. Call this only after the file's
    content was found usable: a file that can't be used is read again every few seconds.
    """
    if mode & 0o007:
        _log.warn(
            "{path} contains secrets and is accessible to every user of this host; restrict its"
            " permissions.",
            path=path,
        )
