"""The console command `hbtctl`."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from hbtd.ctl import arguments
from hbtd.ctl.client import Client
from hbtd.ctl.failures import INTERRUPTED, YES, Failure
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.terminal import Terminal


def main() -> None:
    """Run hbtctl as the command line says, and exit."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as other commands end in a pipe
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    raise SystemExit(run(sys.argv[1:], os.environ, sys.stdin, sys.stdout, sys.stderr))


def run(
    words: Sequence[str],
    environ: Mapping[str, str],
    stdin: TextIO,
    out: TextIO,
    err: TextIO,
) -> int:
    """Run the command that the arguments `words` give, and return its exit status.

    Raise `SystemExit` for `--help`, for `--version`, and for an invalid command line.
    """
    options = arguments.parse(words, environ)
    terminal = Terminal(stdin, out, err, environ)
    try:
        if options.command == "completion":
            from hbtd.ctl.completion import script

            out.write(script(options.shell))
            return YES
        client = Client(arguments.settings(options))
        if client.exposes_token:
            terminal.note(f"the token goes to {client.target} unencrypted")
        try:
            return _command(options.command)(Invocation(client, terminal, options))
        finally:
            client.close()
    except Failure as failure:
        terminal.note(str(failure))
        return failure.status
    except (KeyError, TypeError, AttributeError) as error:
        terminal.note(f"the answer is not one of this release of hbtd: {error!r}")
        return Failure.status
    except KeyboardInterrupt:
        terminal.clear_progress()
        return YES if options.command in ("watch", "events") else INTERRUPTED


def _command(name: str) -> Callable[[Invocation], int]:
    """Return the function that runs a command; import only the module that it needs."""
    if name in ("status", "list", "why", "history"):
        from hbtd.ctl import looking

        return {
            "status": looking.status,
            "list": looking.list_components,
            "why": looking.why,
            "history": looking.history,
        }[name]
    if name == "tree":
        from hbtd.ctl.tree import tree

        return tree
    if name == "events":
        from hbtd.ctl.following import events

        return events
    if name == "watch":
        return _watch
    if name in ("health", "internals"):
        from hbtd.ctl import service

        return service.health if name == "health" else service.internals
    if name == "thresholds":
        from hbtd.ctl.thresholds import thresholds

        return thresholds
    if name == "maintenance":
        from hbtd.ctl.maintaining import maintenance

        return maintenance
    if name == "whatif":
        from hbtd.ctl.whatif import whatif

        return whatif
    if name in ("reconcile", "absent"):
        from hbtd.ctl import reconciling

        return reconciling.reconcile if name == "reconcile" else reconciling.absent
    if name == "guard":
        from hbtd.ctl.guarding import guard

        return guard
    from hbtd.ctl import acting

    commands = {
        "wait": acting.wait,
        "send": acting.send,
        "forget": acting.forget,
        "params": acting.params,
    }
    return commands[name]


def _watch(run: Invocation) -> int:
    from hbtd.ctl.following import watch

    return watch(run, Client(arguments.settings(run.options)))
