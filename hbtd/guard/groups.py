"""An operator's own failure domains: the groups in the file of `--groups`.

Two sorts of failure domain do not follow from xnames: what hangs on one PDU, and what hangs on one
switch. The file names them, one on each line, with the components as a nodeset::

    # PDUs of cabinet 1000
    pdu-3     x1000c0s[0-7]b0n[0-3]
    pdu-4     x1000c0s[0-7]b1n[0-3]
    x1000m0   x1000c[0-3]               # a PDU by its xname; four chassis with all that is in them
    row-b     x[1008-1011]
    row-b     x1016                     # one more cabinet of row-b

What is defined, and what is refused:

- A group that is named on several lines lists what all of them list. Names may be repeated.
- Groups may overlap; a name may be in 16 of them. A component is in each group that lists the
  component itself, its slot, its chassis or its cabinet.
- A group may have fewer than three components, as inventories do, but is then never disrupted
  (`Groups.too_small`). A group whose nodeset is missing or empty is refused: a line was cut off, or
  a set subtracted too much.
- The name of a group may be an xname, such as that of a PDU or a switch, but not that of a slot, a
  chassis, a cabinet or the system, which are failure domains already, nor `all`.
- A file without any group is valid.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from hbtd.formats import xnames
from hbtd.formats.nodesets import NodesetError, expand
from hbtd.runtime.ordinary_files import read_ordinary

MOST_GROUPS: Final = 10_000
"""The most groups in a file."""

MOST_NAMES: Final = 2_000_000
"""The most names that all nodesets of a file have together; repeated names count each time."""

MOST_GROUPS_OF_A_NAME: Final = 16
"""The most groups that list one name: what a silence of a component costs grows with them."""

LARGEST_FILE: Final = 64 * 1024 * 1024
"""The most bytes in a file of groups."""

FEWEST: Final = 3
"""The fewest components that must fall silent together to be a disruption."""

SYSTEM: Final = "s0"
"""The name of the failure domain that is the whole system: its xname."""

_ALL: Final = "all"
"""What stands for all domains in commands."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,62}")
_NAMES_ARE: Final = (
    "a name has up to 63 letters, digits and ._:-, and begins with a letter or a digit"
)
_LONGEST_SHOWN: Final = 60


class GroupsUnusable(Exception):
    """Raised when a file of groups can't be used.

    The message is one printable line, which names the file and the line in it, and says what is
    wrong and what to do.
    """


class Groups:
    """Which groups list which xnames.

    An xname in a group takes some 130 bytes, so a group that lists cabinets, chassis or slots takes
    much less memory than one that lists all their nodes.
    """

    def __init__(self, lines: Iterable[tuple[str, Iterable[str]]] = ()) -> None:
        """Make groups of pairs of a group's name and of valid xnames in normal form.

        Pairs with the same name are one group. Raise `ValueError` if an xname is in more than 16
        groups.
        """
        self._listing: dict[str, tuple[str, ...]] = {}
        self._sizes: dict[str, int] = {}
        # Most xnames are in the same groups as many others: one tuple for all of these.
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        for name, members in lines:
            self.add(name, members)

    def add(self, name: str, members: Iterable[str]) -> None:
        """Add xnames to a group, which is made if there is none; raise as `__init__` does."""
        size = self._sizes.get(name, 0)
        for xname in members:
            groups = self._listing.get(xname, ())
            if name in groups:
                continue
            if len(groups) == MOST_GROUPS_OF_A_NAME:
                raise ValueError(
                    f"{xname} is in {MOST_GROUPS_OF_A_NAME} other groups already; no name may be"
                    " in more: leave it out of some"
                )
            more = (*groups, name)
            self._listing[xname] = self._shared.setdefault(more, more)
            size += FEWEST if xnames.PLACE.fullmatch(xname) else 1
        self._sizes[name] = size

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._sizes)

    def __contains__(self, name: str) -> bool:
        """Return whether there is a group with a name."""
        return name in self._sizes

    @property
    def too_small(self) -> list[str]:
        """The names of the groups with fewer than three components, which are never disrupted.

        A slot, a chassis or a cabinet counts as many components.
        """
        return [name for name, size in self._sizes.items() if size < FEWEST]

    def listing(self, xname: str) -> tuple[str, ...]:
        """Return the names of the groups that list `xname` itself, in the order of the file."""
        return self._listing.get(xname, ())


def read_groups(path: str) -> Groups:
    """Return the groups in a file.

    Raise `GroupsUnusable` if the file can't be read or is too large, or if `parse_groups` raises
    it. A hundred thousand names take about a second, chassis and cabinets no time.
    """
    try:
        content, _ = read_ordinary(path, LARGEST_FILE)
    except OSError as error:
        raise GroupsUnusable(
            f"{path} can't be read: {error.strerror}; --groups takes a file of groups"
        ) from error
    return parse_groups(content, path)


def parse_groups(content: bytes, path: str) -> Groups:
    """Return the groups in the content of the file `path`.

    A line is a name and, after white space, a nodeset (`hbtd.formats.nodesets`); the docstring of
    this module says what they may be. Empty lines, and what follows a `#`, are skipped. Raise
    `GroupsUnusable` if a line has any other form, or if there are too many groups or names.
    """
    groups, names = Groups(), 0
    for number, line in enumerate(content.splitlines(), 1):
        words = line.partition(b"#")[0].split(None, 1)
        if not words:
            continue
        try:
            name, nodeset = _split([word.decode("ascii") for word in words])
            if name not in groups and len(groups) == MOST_GROUPS:
                raise ValueError(f"there are more than {MOST_GROUPS:,} groups: give fewer")
            members = list(_members(nodeset, MOST_NAMES - names))
            names += len(members)
            groups.add(name, members)
        except ValueError as error:
            why = "it is not ASCII" if isinstance(error, UnicodeDecodeError) else error
            raise GroupsUnusable(f"line {number} of {path} is no group: {why}") from error
    return groups


def _split(words: list[str]) -> tuple[str, str]:
    """Return the name and the nodeset on a line, from its first word and the rest.

    Raise `ValueError`, with a message that says what is wrong, if the name is not valid or if there
    is no nodeset.
    """
    name = words[0]
    if not _NAME.fullmatch(name):
        raise ValueError(f"{_shown(name)} is no name for a group; {_NAMES_ARE}")
    normal = xnames.normalise(name)
    if xnames.PLACE.fullmatch(normal) or normal in (SYSTEM, _ALL):
        raise ValueError(
            f"{_shown(name)} is no name for a group: it stands for a slot, a chassis, a cabinet or"
            " the whole system, which are failure domains already; choose another one"
        )
    if len(words) == 1:
        raise ValueError(
            f"{_shown(name)} has no components; a nodeset follows it, such as x1000c0s[0-7]b0n0"
        )
    return name, words[1].strip()


def _members(nodeset: str, most: int) -> Iterator[str]:
    """Yield the xnames of a nodeset in normal form.

    Raise `ValueError`, of which `NodesetError` is one, if there are none or more than `most`, or if
    one is not an xname.
    """
    try:
        names = expand(nodeset, MOST_NAMES)
    except NodesetError as error:
        raise ValueError(f"its nodeset is not valid: {error}") from error
    count = 0
    for count, name in enumerate(names, 1):
        if count > most:
            raise ValueError(
                f"all groups together list more than {MOST_NAMES:,} names: list chassis or"
                " cabinets in place of their nodes"
            )
        xname = xnames.parse(name)
        if xname is None:
            raise ValueError(f"{_shown(name)} is not an xname: correct it or leave it out")
        yield xname
    if not count:
        raise ValueError(f"its nodeset {_shown(nodeset)} names no component: delete the line")


def _shown(text: str) -> str:
    """Return a text for an error message: quoted, printable, and cut off if it is long."""
    cut = text[:_LONGEST_SHOWN] + "..." * (len(text) > _LONGEST_SHOWN)
    return "'" + cut.encode("unicode_escape").decode("ascii") + "'"
