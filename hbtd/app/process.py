"""hbtd as a process of its own: where its log goes, which signals it heeds, how it exits."""

import gc
import os
import resource
import signal
from collections.abc import Mapping

from twisted.internet import reactor
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.app.errors import StartupError
from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.runtime.logs import error_stream, escaped, observer

_MOST_FILES = 1_048_576
"""Open files that are asked for where there is no limit; the kernel's own default."""

_log = Logger()


def make_service(params: Params, environ: Mapping[str, str], *, own_log: bool) -> HbtdService:
    """Make the service that this process is to be; exits with 2 if an option can't be used.

    With `own_log`, hbtd's log goes to the standard error stream in the form that `params` asks
    for; otherwise it is left to twistd.
    """
    service: HbtdService
    log_observer = None
    if own_log:
        log_observer = observer(
            error_stream(), params.log_format, lambda: service.params.current.debug, environ
        )
    try:
        service = _Process(params, reactor, log_observer)
    except StartupError as error:
        print(escaped(f"hbtd: {error}"), file=error_stream())
        raise SystemExit(2) from None
    return service


class _Process(HbtdService):
    """The service that is a process, which it may end."""

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except StartupError as error:
            _log.critical("hbtd {error}", error=str(error))
            raise SystemExit(1) from None

    def startService(self) -> None:
        # Only when it runs has the reactor set its own handlers.
        self._reactor.callWhenRunning(self._run)

    async def _start(self) -> None:
        await super()._start()
        # What is there now stays: modules, and the components of before. The garbage collector
        # need not look at a million of them again and again.
        gc.collect()
        gc.freeze()

    def _start_failed(self, failure: Failure) -> None:
        # twistd knows no other way to end with a status when the reactor was stopped.
        self._reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        super()._start_failed(failure)

    def _run(self) -> None:
        """Take the signals, then start: who reads that we serve may end us.

        SIGTERM and SIGINT end us in good order, with exit status 0; a second one at once. twistd
        would have the process die of the signal in the end. SIGHUP has certificates, keys and
        tokens read again.
        """

        def end(number: int, frame: object) -> None:
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_DFL)
            self._reactor.callFromThread(self._reactor.stop)

        def reload(number: int, frame: object) -> None:
            self._reactor.callFromThread(self.reload)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        signal.signal(signal.SIGHUP, reload)
        files = _raise_open_files()
        if files != resource.RLIM_INFINITY:
            self.fit_connections(files)
        super().startService()


def _raise_open_files() -> int:
    """Let this process have as many files open as it may: each connection is one.

    Gives how many that are, or `RLIM_INFINITY`.
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if most == resource.RLIM_INFINITY else most
    if wanted > before != resource.RLIM_INFINITY:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        except (OSError, ValueError) as error:
            _log.warn("The limit of open files can't be raised: {error}", error=str(error))
    now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    _log.info("Up to {now} files, connections included, can be open at once.", now=now)
    return now
