"""The command `tree`: shows the machine by cabinet, chassis and slot, with the silent parts."""

import re
from collections.abc import Iterator
from typing import Any

from hbtd.ctl.escaping import shown, shown_json
from hbtd.ctl.failures import NO, YES
from hbtd.ctl.invocation import Invocation
from hbtd.ctl.looking import shown_hsm
from hbtd.ctl.times import shown_time
from hbtd.formats.counts import counted
from hbtd.formats.nodesets import fold, natural_key, within

_PLACES = re.compile(r"(x\d+)(c\d+)?(s\d+|r\d+)?")
_STATES = ("dead", "warned", "healthy")

Component = dict[str, Any]


class Group:
    """The components of one place: a cabinet, a chassis, a slot, or the whole machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inner: dict[str, Group] = {}
        """The groups of the places directly within this place, by the names of the places."""
        self.own: list[Component] = []
        """The components of this place that are in no place of `inner`."""
        self.counts = dict.fromkeys(_STATES, 0)

    @property
    def total(self) -> int:
        """The number of components of this place, including those of the places within it."""
        return sum(self.counts.values())

    @property
    def uniform(self) -> str | None:
        """The state that all components of this place have; `None` if their states differ.

        The components of places within this place count, too.
        """
        present = [state for state in _STATES if self.counts[state]]
        return present[0] if len(present) == 1 else None

    def members(self) -> Iterator[Component]:
        """Yield all components of this place, including those of the places within it."""
        yield from self.own
        for group in self.inner.values():
            yield from group.members()


def grouped(components: list[Component]) -> Group:
    """Return the whole machine as a group of nested groups, with each component in its place.

    The place of a component is derived from its xname.
    """
    machine = Group("")
    for component in components:
        places = _places(component["XName"])
        path = _path(machine, places[-1] if places else "", dict.fromkeys(_STATES, 0))
        path[-1].own.append(component)
        for group in path:
            state = component["State"]
            group.counts[state] = group.counts.get(state, 0) + 1
    return machine


def _places(xname: str) -> list[str]:
    """Return the names of the places in which a component is, the largest first."""
    match = _PLACES.match(xname)
    ends = [match.end(i) for i in (1, 2, 3) if match[i]] if match else []
    # A cabinet's own heartbeat is not inside it.
    return [xname[:end] for end in ends if end < len(xname)]


def _path(machine: Group, place: str, counts: dict[str, int]) -> list[Group]:
    """Return the groups on the way from `machine`, the whole machine, down to a place.

    Groups that `machine` lacks are added to it, each with a copy of `counts` as its numbers of
    components by state.
    """
    path = [machine]
    for name in [*_places(place), *([place] if place else [])]:
        group = path[-1].inner.get(name)
        if group is None:
            group = path[-1].inner[name] = Group(name)
            group.counts = dict(counts)
        path.append(group)
    return path


def tree(run: Invocation) -> int:
    """Print the machine as a tree; a part whose components are all in one state is one line.

    The exit status is 1 if a component named on the command line is not tracked.
    """
    names = run.names()
    if run.options.down and not names and not run.json:
        return _down(run)
    answer = run.components(names, {"under": run.options.under})
    if run.json:
        run.terminal.line(shown_json(answer))
        return NO if answer["Unknown"] else YES
    _draw(run, grouped(answer["Components"]))
    if answer["Unknown"]:
        run.terminal.note(f"not tracked: {answer['Unknown']}")
        return NO
    return YES


def _down(run: Invocation) -> int:
    """Print the places in which something is silent, without fetching healthy components."""
    under = run.options.under
    query = {"under": under}
    silent = run.components("", {**query, "state": "warned,dead"})["Components"]
    machine = Group("")
    listed = {""}
    for page in run.pages("/tree", query):
        machine.counts = _read_counts(page["Counts"])
        for part in page["Parts"]:
            # Above what was asked for, there is nothing else.
            for group in _path(machine, part["XName"], machine.counts)[-1:]:
                group.counts = _read_counts(part["Counts"])
                listed.add(group.name)
    for component in silent:
        place = "".join(_places(component["XName"])[-1:])
        # If its place is not listed, it was heard again since the first question.
        if place in listed or (under and not within(place, under)):
            _path(machine, place, machine.counts)[-1].own.append(component)
    _draw(run, machine)
    return YES


def _read_counts(counts: dict[str, int]) -> dict[str, int]:
    return {state: int(counts[state]) for state in _STATES}


def _draw(run: Invocation, machine: Group) -> None:
    run.terminal.line(f"{counted(machine.total, 'component')}: {_counts(run, machine)}")
    for line in _branches(run, machine, "", down=run.options.down):
        run.terminal.line(line)


def _branches(run: Invocation, group: Group, indent: str, *, down: bool) -> Iterator[str]:
    """Yield the tree's lines below a group; with `down`, only those where something is silent.

    Each line begins with `indent`.
    """
    inner = sorted(group.inner.values(), key=lambda each: natural_key(each.name))
    if down:
        inner = [each for each in inner if each.uniform != "healthy"]
    leaves = list(_leaves(run, group, down=down))
    tee, bar, end = ("├─ ", "│  ", "└─ ") if run.terminal.draws else ("|- ", "|  ", "`- ")
    for i, each in enumerate(inner):
        last = i == len(inner) - 1 and not leaves
        yield f"{indent}{end if last else tee}{_line(run, each)}"
        if not each.uniform:
            further = indent + ("   " if last else bar)
            yield from _branches(run, each, further, down=down)
    for i, leaf in enumerate(leaves):
        yield f"{indent}{end if i == len(leaves) - 1 else tee}{leaf}"


def _line(run: Invocation, group: Group) -> str:
    """Return the line about one place: its name, and how many components are in which state."""
    state = group.uniform
    name = shown(group.name)
    if state is None:
        return f"{name}  {_counts(run, group)}"
    text = f"{name}  {group.total}/{group.total} {state}"
    if state != "healthy":
        text += _circumstances(list(group.members()))
    return run.terminal.paint(text, state if state != "healthy" else "")


def _leaves(run: Invocation, group: Group, *, down: bool) -> Iterator[str]:
    """Yield one line for each state, about the components that are directly in a group.

    With `down`, there is no line for healthy components.
    """
    for state in dict.fromkeys((*_STATES, *group.counts)):
        members = [c for c in group.own if c["State"] == state]
        if members and not (down and state == "healthy"):
            names = shown(fold(c["XName"] for c in members), 2000)
            text = f"{names}  {state}"
            if state != "healthy":
                text += _circumstances(members)
            yield run.terminal.paint(text, state if state != "healthy" else "")


def _circumstances(members: list[Component]) -> str:
    """Return a text that says since when components are silent, and whether HSM was told."""
    since = min((c["Since"] for c in members if c.get("Since")), default=None)
    text = f" since {shown_time(since)}" if since else ""
    told = [c["HSM"] for c in members if c.get("HSM")]
    missing = [hsm for hsm in told if hsm["State"] in ("waiting", "set aside", "in doubt")]
    if missing:
        return f"{text}, HSM not told of {len(missing)}: {shown_hsm(missing[0])}"
    times = [hsm["At"] for hsm in told if hsm["State"] == "told" and hsm.get("At")]
    return text + (f", HSM told {shown_time(max(times))}" if times else "")


def _counts(run: Invocation, group: Group) -> str:
    parts = [
        run.terminal.paint(f"{number} {state}", state if state != "healthy" else "")
        for state, number in group.counts.items()
        if number
    ]
    return ", ".join(parts) or "none"
