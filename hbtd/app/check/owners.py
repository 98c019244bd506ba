"""Finds the processes that hold a file's lock or a port, and the systemd units of the processes."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTENS = "0A"  # TCP_LISTEN, in /proc/net/tcp

_UNIT = re.compile(r"/(hbtd[^/\n]*\.service)(?:/|$)", re.MULTILINE)


class Owners:
    """Finds the processes that hold locks and ports, in the kernel's files below `/proc`."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def unit_of(self, pid: int) -> str:
        """Return the name of the systemd unit of hbtd to which a process belongs.

        Return an empty text if the process belongs to no unit of hbtd. A process of a unit ends
        when the unit is restarted, and so frees its locks and ports for the next hbtd.
        """
        with suppress(OSError):
            found = _UNIT.search((self._proc / str(pid) / "cgroup").read_text("utf-8", "replace"))
            return found[1] if found else ""
        return ""

    def lock_holder(self, path: str) -> int | None:
        """Return the PID of the process that has locked a file by `flock`; `None` if none has.

        Return 0 if the kernel hides the PID, for example of a process outside of this container.
        This method does not try to lock the file itself: otherwise an hbtd that starts at the same
        moment could fail to lock the file.
        """
        status = os.stat(path)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        place = f"{device}:{status.st_ino}"
        with suppress(OSError):
            for line in (self._proc / "locks").read_text("ascii", "replace").splitlines():
                words = line.split()
                # "1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF"; with "->" for one that waits
                if len(words) >= 8 and words[1] == "FLOCK" and words[5] == place:
                    return max(int(words[4]), 0)
        return None

    def port_holders(self, port: int) -> list[int]:
        """Return the PIDs of the visible processes that listen on a TCP port.

        Only root sees what processes of other users listen on. If systemd has passed the listening
        socket to hbtd, the PID of systemd is in the list, too.
        """
        found = []
        inodes = {f"socket:[{inode}]" for inode in self._listening(port)}
        for directory in self._proc.glob("[0-9]*/fd") if inodes else ():
            with suppress(OSError):
                for each in directory.iterdir():
                    with suppress(OSError):
                        if os.readlink(each) in inodes:
                            found.append(int(directory.parent.name))
                            break
        return found

    def lives(self, pid: int) -> bool:
        """Return whether a process with this PID exists."""
        return (self._proc / str(pid)).exists()

    def _listening(self, port: int) -> Iterator[str]:
        """Yield the inodes of the sockets that listen on a TCP port."""
        for table in ("tcp", "tcp6"):
            with suppress(OSError):
                for line in (self._proc / "net" / table).read_text("ascii").splitlines()[1:]:
                    words = line.split()
                    if words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                        yield words[9]
