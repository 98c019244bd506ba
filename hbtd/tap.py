"""hbtd as a twistd plugin: `twistd -n hbtd [options]`."""

from os import environ

from hbtd.options import CommandLine
from hbtd.service import HbtdService, make_service


class Options(CommandLine):
    """hbtd's options, as twistd wants to make them."""

    def __init__(self) -> None:
        super().__init__(environ)


def makeService(options: Options) -> HbtdService:
    """Make the service; twistd's own choices of where to log win over hbtd's."""
    twistd = getattr(options, "parent", None) or {}
    elsewhere = any(twistd.get(name) for name in ("logfile", "syslog", "logger"))
    foreground = bool(twistd.get("nodaemon"))
    return make_service(options.params, environ, own_log=foreground and not elsewhere)
