"""Names on the command line: nodesets, xnames, NIDs and hostnames.

hbtd itself expands nodesets, and finds components by NIDs and hostnames. This module only joins
names, reads them from standard input, and divides them if a query would become too long. A group
such as `@compute` is one of ClusterShell's groups on this host, so it is expanded here.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TextIO

from hbtd.ctl.failures import Misused

LONGEST = 6000
"""The maximum length of the names in one query, in characters.

Servers may reject a request line that is longer than 8 KiB.
"""


def joined(words: Sequence[str], stdin: TextIO) -> str:
    """Return the names that words of the command line stand for, as one nodeset.

    The word `-` stands for the names on standard input, separated by blanks, commas or line breaks.
    """
    parts: list[str] = []
    for word in words:
        parts += stdin.read().split() if word == "-" else [word.strip()]
    text = ",".join(part.strip(",") for part in parts if part.strip(","))
    return _without_groups(text) if "@" in text else text


def hint(unknown: str) -> str:
    """Return advice for a user who has given names that hbtd does not know.

    There is advice if one of the names is a state, such as `dead`, or the xname of a part of the
    machine. Return an empty text if there is no advice.
    """
    for name in re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", unknown):
        if name.lower() in ("ok", "healthy", "warned", "dead", "alive", "silent"):
            return f"; a state is given as --state {name}"
        if re.fullmatch(r"x\d+(c\d+([sr]\d+(b\d+)?)?)?", name):
            return f"; --under {name} is for what is in it"
        if re.fullmatch(r"x#(c#([sr]#(b#)?)?)?", re.sub(r"\d+|\[[\d,-]+\]", "#", name)):
            return "; --under, with the name of one of them, is for what is in it"
    return ""


def portions(names: str, longest: int = LONGEST) -> Iterator[str]:
    """Yield a nodeset in portions, each of them short enough for one query.

    A portion has at most `longest` characters, unless it is a single longer name. If there are no
    names, one empty portion is yielded.
    """
    portion = ""
    for name in re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", names):
        if portion and len(portion) + len(name) >= longest:
            yield portion
            portion = ""
        portion = f"{portion},{name}" if portion else name
    yield portion


def _without_groups(names: str) -> str:
    """Return a nodeset in which the ClusterShell groups of this host, `@NAME`, are expanded."""
    from ClusterShell.NodeSet import NodeSet, NodeSetException
    from ClusterShell.NodeUtils import GroupResolverError, GroupSourceError

    try:
        return str(NodeSet(names))
    except (NodeSetException, GroupResolverError, GroupSourceError) as error:
        reason = str(error) or type(error).__name__
        raise Misused(f"{names} can't be used: ClusterShell says {reason}") from None
