"""Runs hbtd as a process: its log, its signals, and its exit status."""

import atexit
import faulthandler
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from hbtd.app.check.run import run
from hbtd.app.errors import StartupError, exit_status
from hbtd.app.service import HbtdService
from hbtd.app.supervision import Supervision, make_supervision
from hbtd.config.command_line import HbtdOptions
from hbtd.config.params import Params
from hbtd.net.names import Names
from hbtd.runtime.garbage import Freezer
from hbtd.runtime.log_writer import LogWriter, writer_to
from hbtd.runtime.logs import dropped_lines, error_stream, escaped, line_format, observer
from hbtd.runtime.service_manager import passed_sockets
from hbtd.runtime.signals import deliver_signals

_FLUSH = 2.0
"""Seconds to wait at the end for the reader of the log to take the last lines."""

_MOST_FILES = 1_048_576
"""The open-file limit that is set if the hard limit is infinite: Linux's default `fs.nr_open`."""

_log = Logger()


def make_service(
    params: Params, environ: Mapping[str, str], *, own_log: bool, warnings: Sequence[str] = ()
) -> HbtdService:
    """Return hbtd's service for this process; raise `SystemExit` if hbtd can't start.

    The possible exit statuses are in `hbtd.app.errors`. If `own_log` is true, hbtd writes its log
    to the standard error stream, in the format of the parameter `log_format`. Otherwise twistd
    writes the log. `warnings` are sentences to log, about how the parameters were given. `environ`
    has the environment variables of the process.
    """
    service: HbtdService
    supervision = make_supervision(reactor, environ, os.getpid())
    supervision.step("Reading options and files")
    log_observer = writer = None
    if own_log:
        line = line_format(params.log_format, environ)
        writer = writer_to(error_stream(), dropped_lines(line, time.time))
        log_observer = observer(writer.write, line, lambda: service.params.current.debug)
    try:
        passed = passed_sockets(environ, os.getpid())
        service = _Process(params, reactor, log_observer, writer, supervision, passed)
    except StartupError as error:
        supervision.failed(str(error))
        print(escaped(f"hbtd: {error}"), file=error_stream())
        raise SystemExit(error.status) from None
    for sentence in warnings:
        _log.warn("{sentence}", sentence=sentence)
    return service


def run_check(options: HbtdOptions, environ: Mapping[str, str], out: TextIO) -> int:
    """Write to `out` whether hbtd could start with `options`; return the exit status.

    `environ` says which sockets systemd has passed.
    """
    return run(options, reactor, out, passed_sockets(environ, os.getpid()))


class _Process(HbtdService):
    """hbtd's service, which also handles the process's signals and sets its exit status."""

    def __init__(
        self,
        params: Params,
        reactor: Any,
        log_observer: ILogObserver | None,
        writer: LogWriter | None,
        supervision: Supervision,
        passed: Sequence[int],
    ) -> None:
        """Build the service.

        `log_observer` is called with each event of the service's log, and writes lines with
        `writer`. Both are `None` if twistd writes the log. `supervision` tells systemd what hbtd
        does; `passed` are the file descriptors of the sockets that systemd has passed.
        """
        super().__init__(
            params,
            reactor,
            log_observer,
            log_writer=writer,
            supervision=supervision,
            passed_sockets=passed,
        )
        tracker = self.tracker
        self._freezer = Freezer(reactor, lambda: len(tracker))
        self._flush = lambda: None if writer is None else writer.flush(_FLUSH)
        atexit.register(self._flush)

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except StartupError as error:
            self._supervision.failed(str(error))
            _log.critical("hbtd could not start: {error}", error=str(error))
            raise SystemExit(error.status) from None

    def startService(self) -> None:
        # When the reactor runs, it has installed its signal handlers, which `_run` replaces.
        self._reactor.callWhenRunning(self._run)

    async def _start(self) -> None:
        # While a million components are restored, each collection would look at all of them.
        gc.disable()
        try:
            await super()._start()
        finally:
            gc.enable()
        # Modules and stored components will stay: spares the garbage collector a million objects.
        gc.collect()
        gc.freeze()
        self._freezer.startService()

    def stopService(self) -> Deferred[None]:
        self._freezer.stopService()
        return super().stopService()

    def _start_failed(self, failure: Failure) -> None:
        if not self.running:
            return  # it was stopped meanwhile, which is no failure
        status = exit_status(failure.value)

        def end() -> None:
            self._flush()
            # twistd has no other way to exit with a status after the reactor was stopped.
            os._exit(status)

        self._reactor.addSystemEventTrigger("after", "shutdown", end)
        super()._start_failed(failure)

    def _run(self) -> None:
        """Install the signal handlers, and start the service.

        The first SIGTERM or SIGINT stops the service in order, with exit status 0. The second kills
        the process. SIGHUP makes hbtd read the files of certificates, keys and tokens again. These
        handlers replace Twisted's: with those, once the service had stopped, the process would kill
        itself with the first signal instead of exiting with status 0.
        """

        def end(number: int, frame: object) -> None:
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_DFL)
            self._reactor.callFromThread(self._reactor.stop)

        def reload(number: int, frame: object) -> None:
            self._reactor.callFromThread(self.reload, "SIGHUP")

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        signal.signal(signal.SIGHUP, reload)
        if sys.__stderr__ is not None:
            # systemd's watchdog ends a process that hangs with SIGABRT: the log says where it was.
            faulthandler.enable(sys.__stderr__)
        deliver_signals()
        # Python would let it kill the process in its last moments.
        ignore = (signal.signal, signal.SIGHUP, signal.SIG_IGN)
        self._reactor.addSystemEventTrigger("after", "shutdown", *ignore)
        files = _raise_open_files()
        if files != resource.RLIM_INFINITY:
            self.fit_connections(files)
        # The reactor's own resolver would keep the process from ending while no nameserver answers.
        self._reactor.installNameResolver(Names(self._reactor))
        super().startService()


def _raise_open_files() -> int:
    """Raise the soft limit of open files to the hard limit, or `_MOST_FILES` if that is infinite.

    Each connection is an open file. A soft limit that is higher already is kept. Return the soft
    limit that is now in force: `RLIM_INFINITY` if it was that before.
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if most == resource.RLIM_INFINITY else most
    if wanted > before != resource.RLIM_INFINITY:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        except (OSError, ValueError) as error:
            _log.warn(
                "The open-file limit can't be raised to {wanted}: {error}. Raise it from outside"
                " (LimitNOFILE of the unit, or ulimit -n).",
                wanted=wanted,
                error=str(error),
            )
    now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    _log.info("The open-file limit is {now}; each connection is an open file.", now=now)
    return now
