"""The commands that show events as they happen: `events` and `watch`."""

import json
import threading
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from random import uniform
from typing import Any

from hbtd.ctl.client import Query
from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.event_stream import Event, EventParser
from hbtd.ctl.failures import YES, Busy, Failure, Misused, Unreachable
from hbtd.ctl.guarding import statement_line
from hbtd.ctl.invocation import API, Invocation
from hbtd.ctl.looking import flapping_line, status_lines, transition_line
from hbtd.ctl.maintaining import SHOWN_FIELDS, notice_line
from hbtd.ctl.names import LONGEST

_SILENCE = 45.0
"""Seconds without a byte after which a stream is given up; hbtd sends one every 15 seconds."""
_PAUSE = (0.5, 10.0)
"""Seconds between two attempts to connect again: at first, and at most. They are jittered."""
_REFRESH = 10.0
"""Seconds after which `watch` asks again although nothing has happened."""
_TOGETHER = 1.0
"""Seconds for which `watch` collects events before it asks again."""
_SHOWN = 12
"""Transitions that `watch` shows."""


def follow(
    api: API,
    query: Query,
    last_id: str,
    note: Callable[[str], None],
    sleep: Callable[[float], None],
) -> Iterator[Event]:
    """Yield hbtd's events without end, beginning after the event with the ID `last_id`.

    If the connection breaks, connect again and continue after the last event. `note` is called with
    a message when the connection breaks and when it is made again; `sleep` waits for a number of
    seconds. Raise `Failure` if the first attempt to connect fails, and whenever hbtd refuses the
    request.
    """
    parser = EventParser(last_id)
    pause, connected, broken = _PAUSE[0], False, False
    while True:
        try:
            for chunk in api.stream("/events", query, parser.last_id, _SILENCE):
                if broken:
                    note("connected again")
                pause, connected, broken = _PAUSE[0], True, False
                yield from parser.feed(chunk)
            reason = "hbtd has ended the stream"
        except (Unreachable, Busy) as error:
            if not connected:
                raise
            reason = str(error)
        except ValueError as error:
            raise Failure(f"what /events sends can't be read: {error}") from None
        if not broken:
            note(f"{reason}; connecting again")
        broken = True
        parser = EventParser(parser.last_id)
        sleep(uniform(pause / 2, pause))  # noqa: S311  # jitter is no secret
        pause = min(pause * 2, _PAUSE[1])


def events(run: Invocation) -> int:
    """Print the latest transitions of components; with `--follow`, also new ones as they happen."""
    options = run.options
    query = _query(run)
    last = str(options.after) if options.after is not None else _show_latest(run, query)
    if not options.follow and options.after is None:
        return YES
    if not options.follow:
        _show_after(run, query)
        return YES
    run.terminal.out.flush()
    for event in follow(run.api, query, last, run.terminal.note, run.sleep):
        if event.type == "missed":
            run.terminal.note("some transitions are missing here: `hbtctl history` has them")
        elif event.type == "transition":
            _show(run, _decoded(event, "XName", "Transition"))
        elif event.type == "flapping":
            mark = _decoded(event, "XName", "Flapping")
            run.terminal.line(shown_json(mark, None) if run.json else flapping_line(mark))
        elif event.type == "guard":
            # Not among the transitions, which programs may read.
            run.terminal.note(statement_line(_decoded(event, "Text")))
        elif event.type == "maintenance":
            run.terminal.note(notice_line(_decoded(event, "What", *SHOWN_FIELDS)))
        run.terminal.out.flush()
    raise AssertionError("it has no end")


def _query(run: Invocation) -> dict[str, object]:
    names = run.names()
    if len(names) > LONGEST:
        raise Misused("there are too many names for one stream of events: use --under")
    return {"names": names, "under": run.options.under}


def _show_latest(run: Invocation, query: Query) -> str:
    """Print the latest entries of the log that `query` selects, at most `--last` of them.

    Return, as text, the number of the latest entry of the whole log.
    """
    newest = run.api.get("/history", {"order": "newest", "limit": 1})["Entries"]
    number = newest[0]["Number"] if newest else 0
    if run.options.last:
        limit = {"order": "newest", "limit": run.options.last}
        for entry in reversed(run.api.get("/history", {**query, **limit})["Entries"]):
            _show(run, entry)
            number = max(number, entry["Number"])
    return str(number)


def _show_after(run: Invocation, query: Query) -> None:
    """Print the entries of the log that follow the number given as `--after`, oldest first."""
    after = run.options.after
    found: list[dict[str, Any]] = []
    for page in run.pages("/history", {**query, "order": "newest"}):
        later = [entry for entry in page["Entries"] if entry["Number"] > after]
        found += later
        run.terminal.progress(f"{len(found)} transitions")
        if len(later) < len(page["Entries"]):
            break
    for entry in reversed(found):
        _show(run, entry)


def _decoded(event: Event, *fields: str) -> dict[str, Any]:
    """Return the data of an event; raise `Failure` unless it is an object that has `fields`."""
    try:
        entry = json.loads(event.data)
        for field in fields:
            entry[field]
    except (ValueError, KeyError, TypeError):
        raise Failure(f"/events sent what is no {event.type}: {shown(event.data, 60)}") from None
    return entry  # type: ignore[no-any-return]


def _show(run: Invocation, entry: dict[str, Any]) -> None:
    if run.json:
        run.terminal.line(shown_json(entry, None))
    else:
        line = transition_line(entry, named=True)
        run.terminal.line(run.terminal.paint(line, _colour(entry)))


def _colour(entry: dict[str, Any]) -> str:
    return {"died": "dead", "warned": "warned"}.get(entry["Transition"], "")


def watch(run: Invocation, follower: API) -> int:
    """Show the output of the command `status`, and update it whenever a transition happens.

    Events are read in a thread from `follower`, a second client of hbtd. On a terminal, the screen
    is redrawn; elsewhere each new summary is printed below the previous one.
    """
    queue: Queue[Event | str | Failure] = Queue()
    query = _query(run)
    last = str(_latest_number(run))

    def reads() -> None:
        try:
            for event in follow(follower, query, last, queue.put, run.sleep):
                queue.put(event)
        except Failure as error:
            queue.put(error)

    threading.Thread(target=reads, name="events", daemon=True).start()
    latest: list[str] = []
    remark = ""
    while True:
        _draw(run, latest, remark)
        for each in _together(queue, run.clock):
            if isinstance(each, Failure):
                raise each
            if isinstance(each, str):
                remark = each
            elif each.type == "transition":
                entry = _decoded(each, "XName", "Transition")
                line = transition_line(entry, named=True)
                latest.append(run.terminal.paint(line, _colour(entry)))
            elif each.type == "flapping":
                latest.append(flapping_line(_decoded(each, "XName", "Flapping")))
            elif each.type == "guard":
                latest.append(run.terminal.paint(statement_line(_decoded(each, "Text")), "dead"))
            elif each.type == "maintenance":
                latest.append(notice_line(_decoded(each, "What", *SHOWN_FIELDS)))
        del latest[:-_SHOWN]


def _latest_number(run: Invocation) -> int:
    newest = run.api.get("/history", {"order": "newest", "limit": 1})["Entries"]
    return int(newest[0]["Number"]) if newest else 0


def _together(
    queue: "Queue[Event | str | Failure]", clock: Callable[[], float]
) -> "list[Event | str | Failure]":
    """Return the items that come into a queue within `_TOGETHER` seconds of the first one.

    Wait for at most `_REFRESH` seconds in all; if no item comes, the list is empty.
    """
    found: list[Event | str | Failure] = []
    end = clock() + _REFRESH
    try:
        while (left := end - clock()) > 0:
            found.append(queue.get(timeout=left))
            end = min(end, clock() + _TOGETHER) if len(found) == 1 else end
    except Empty:
        pass
    return found


def _draw(run: Invocation, latest: list[str], remark: str) -> None:
    """Fetch the summary; print it, lines on the `latest` transitions, and a remark.

    The remark is about the connection for events, or empty. If the summary can't be fetched, print
    only the reason.
    """
    terminal = run.terminal
    try:
        summary = run.api.get("/summary")
    except (Unreachable, Busy) as error:
        terminal.note(str(error))
        return
    if run.json:
        terminal.line(shown_json(summary, None))
    else:
        if terminal.interactive:
            terminal.out.write("\x1b[H\x1b[2J")
        for line in status_lines(run, summary):
            terminal.line(line)
        if latest:
            terminal.line("latest transitions (UTC):")
        for line in latest:
            terminal.line(f"  {line}")
        if remark:
            terminal.line(f"({shown(remark)})")
        terminal.line("" if not terminal.interactive else "Ctrl-C ends this.")
    terminal.out.flush()
