"""Files with secrets: who may read them."""

from twisted.logger import Logger

_log = Logger()


def warn_of_readers(path: str, mode: int) -> None:
    """Log a warning if every user of this host may read or write a file of secrets.

    `mode` is the file's mode, as `os.fstat` returns it. Call this once the file's content has been
    found usable: a file that can't be used is read again every few seconds.
    """
    if mode & 0o007:
        _log.warn(
            "{path} contains secrets and is accessible to every user of this host; restrict its"
            " permissions.",
            path=path,
        )
