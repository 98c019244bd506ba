"""Checks of the host: its clock, its limit of open files, and the user who runs the check."""

import ctypes
import os
import pwd
import resource

from hbtd.app.check.findings import Findings
from hbtd.config.params import Params
from hbtd.formats.counts import counted
from hbtd.server.limits import connections_for

_NOT_SYNCHRONISED = 5  # TIME_ERROR of sys/timex.h
_TIMEX_BYTES = 512  # struct timex has fewer; all zero, it asks and sets nothing


def check_host(params: Params, findings: Findings) -> None:
    """Warn of a low open-file limit, of an unsynchronised clock, and of running the check as root.

    root may use files that the service's user may not use.
    """
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = connections_for(files)
    if files != resource.RLIM_INFINITY and most < params.max_connections:
        findings.warning(
            f"the open-file limit of this shell, {files}, allows"
            f" {counted(most, 'connection')}; --max_connections is {params.max_connections}."
            " A unit has its own limit, LimitNOFILE"
        )
    if not _synchronised():
        findings.warning(
            "the kernel takes the clock for not synchronised: certificates may seem invalid, and"
            " replicas have to agree on the time"
        )
    if os.geteuid() == 0 and any(each.pw_name == "hbtd" for each in pwd.getpwall()):
        findings.warning(
            "checked as root, who may read and write everything; the service's user hbtd may not"
        )


def _synchronised() -> bool:
    """Return false if the kernel says that its clock is not synchronised, otherwise true."""
    try:
        asked = ctypes.create_string_buffer(_TIMEX_BYTES)
        return int(ctypes.CDLL(None).adjtimex(asked)) != _NOT_SYNCHRONISED
    except (OSError, AttributeError):
        return True
