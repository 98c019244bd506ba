"""HSM's table: the states of components, and the rules by which they change.

The rules are those that a real HSM (hms-smd 2025-11) was seen to follow. A component whose current
state does not permit the new state of an update is not changed; the update succeeds nevertheless.
The real HSM also ignores components that are not in its table; `HSMTable.update` ignores or adds
such components, as its caller chooses.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hbtd.formats import xnames

STATES: Final = {
    state.lower(): state
    for state in ("Unknown", "Empty", "Populated", "Off", "On", "Standby", "Halt", "Ready")
}
"""The states of components as HSM spells them, by their lower-case spelling."""

FLAGS: Final = {flag.lower(): flag for flag in ("Unknown", "OK", "Warning", "Alert", "Locked")}
"""The flags of components as HSM spells them, by their lower-case spelling."""

_ALWAYS_FITS: Final = ("Ready", "OK")
"""What even a component that is off is set to, as it shows that it is on."""


@dataclass
class ComponentState:
    """The row of one component in HSM's table."""

    state: str
    flag: str
    message: str = ""
    enabled: bool = True
    """Whether the component is in service; operators can take it out of service."""

    def fits(self, state: str, flag: str) -> bool:
        """Return whether an update to `state` and `flag` that is not forced changes the row.

        A row whose state is `Off` is changed only by an update to `Ready` and `OK`.
        """
        return self.state != "Off" or (state, flag) == _ALWAYS_FITS


@dataclass(frozen=True)
class Selection:
    """The conditions by which a query selects rows of the table.

    An empty field selects all rows. Upper and lower case make no difference.
    """

    names: Sequence[str] = ()
    types: Collection[str] = ()
    states: Collection[str] = ()
    flags: Collection[str] = ()
    enabled: Collection[str] = ()
    state_only: bool = False
    """Whether the answer has only the ID, type, state and flag of each component."""

    @classmethod
    def read(cls, query: Mapping[str, object]) -> "Selection":
        """Return the selection that a query describes.

        `query` has the arguments of a URL, or the fields of a JSON object.
        """
        return cls(
            names=_texts(query.get("id")),
            types=_texts(query.get("type")),
            states=_texts(query.get("state")),
            flags=_texts(query.get("flag")),
            enabled=_texts(query.get("enabled")),
            state_only=_texts(query.get("stateonly")) == ["true"],
        )

    def matches(self, name: str, row: ComponentState) -> bool:
        """Return whether all fields but `names` select the row of the component `name`."""
        return all(
            not wanted or value.lower() in {each.lower() for each in wanted}
            for wanted, value in (
                (self.types, xnames.component_type(name) or ""),
                (self.states, row.state),
                (self.flags, row.flag),
                (self.enabled, str(row.enabled)),
            )
        )


@dataclass
class HSMTable:
    """A table of component states, as a Hardware State Manager keeps it.

    `rows` is a dictionary from the components' xnames to their rows.
    """

    rows: dict[str, ComponentState] = field(default_factory=dict)

    def update(
        self, names: Iterable[str], state: str, flag: str, message: str, *, discovers: bool
    ) -> None:
        """Apply a bulk update to the components `names`, which must be valid xnames.

        Rows whose state does not permit the new state stay unchanged. If `discovers` is true,
        components that have no row are added; otherwise they are ignored.
        """
        for name in map(xnames.normalise, names):
            row = self.rows.get(name)
            if row is None:
                if discovers:
                    self.rows[name] = ComponentState(state, flag, message)
            elif row.fits(state, flag):
                row.state, row.flag, row.message = state, flag, message

    def force(self, rows: Mapping[str, ComponentState]) -> None:
        """Add or replace rows, whatever the states of the present rows.

        `rows` has the new rows by xname, in any spelling.
        """
        self.rows.update((xnames.normalise(name), row) for name, row in rows.items())

    def select(self, selection: Selection) -> Iterator[tuple[str, ComponentState]]:
        """Return the names and rows of the selected components; ignore names not in the table."""
        if selection.names:
            names = dict.fromkeys(map(xnames.normalise, selection.names))
            found = ((name, self.rows[name]) for name in names if name in self.rows)
        else:
            found = ((name, row) for name, row in self.rows.items())
        return (each for each in found if selection.matches(*each))


def invalid_state(state: str, flag: str) -> str | None:
    """Return why HSM rejects a state and a flag, or `None` if HSM knows both."""
    if state.lower() not in STATES:
        return f"Invalid State '{state}'"
    if flag.lower() not in FLAGS:
        return f"Invalid Flag '{flag}'"
    return None


def read_rows(words: Mapping[str, object]) -> dict[str, ComponentState]:
    """Return the rows of a table written as `{"x0c0s0b0n0": "Ready/Warning"}`.

    Raise `ValueError`, whose text names the component, if a name, state or flag is invalid.
    """
    rows = {}
    for name, word in words.items():
        state, _, flag = str(word).partition("/")
        objection = invalid_state(state, flag) if xnames.parse(name) else "not an xname"
        if objection is not None:
            raise ValueError(f"{name}: {objection}")
        rows[name] = ComponentState(STATES[state.lower()], FLAGS[flag.lower()])
    return rows


def document(name: str, row: ComponentState, *, state_only: bool = False) -> dict[str, object]:
    """Return a component's row as a JSON object of HSM's API.

    With `state_only`, the object has only the ID, type, state and flag.
    """
    component_type = xnames.component_type(name)
    shown: dict[str, object] = {
        "ID": name,
        "Type": component_type,
        "State": row.state,
        "Flag": row.flag,
    }
    if not state_only:
        shown["Enabled"] = row.enabled
        if component_type == "Node":
            shown["Role"] = "Compute"
        shown |= {"NetType": "Sling", "Arch": "X86"}
    return shown


def _texts(value: object) -> list[str]:
    """Return the texts of a field that is one value or a list, or is not there."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    texts = (each.decode(errors="replace") if isinstance(each, bytes) else each for each in values)
    return [str(each).lower() if isinstance(each, bool) else str(each) for each in texts]
