"""The ways in which callers may show that they are operators or nodes, as options say it."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

# A path may hold a plus sign: only one that a way follows stands between two ways.
_OPERATOR_SPLIT = re.compile(r"\+(?=(?:any|loopback)(?:\+|$)|token:|cert:)")
_NODE_SPLIT = re.compile(r"\+(?=(?:any|cert)(?:\+|$)|jwt:)")


class OperatorWays(NamedTuple):
    """How operators are known; each way is enough by itself."""

    anyone: bool = False
    """Whoever gets through to us is one."""
    loopback: bool = False
    """Whoever is on this host is one."""
    token_path: str = ""
    """A file of bearer tokens, if there is one."""
    names: frozenset[str] = frozenset()
    """Common names of client certificates."""


class NodeWays(NamedTuple):
    """How nodes are known; each way is enough by itself."""

    anyone: bool = False
    """Nobody is asked."""
    certificates: bool = False
    """By their client certificates."""
    jwks: str = ""
    """By JWTs that were signed with a key of this JWKS, a path or a URL."""

    @property
    def jwks_url(self) -> str:
        """Where the JWKS is fetched; empty when it is a file, or there is none."""
        return self.jwks if is_url(self.jwks) else ""


def is_url(text: str) -> bool:
    """Tell whether a text is an http or https URL."""
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def parse_operator_access(text: str) -> OperatorWays:
    """Read `loopback`, `token:PATH`, `cert:NAME[,NAME...]` and `any`, separated by `+`.

    Raises `ValueError` for anything else, and for a way that is there twice.
    """
    ways = OperatorWays()
    for kind, value in _parts(_OPERATOR_SPLIT, text, ("token", "cert")):
        if kind == "any":
            ways = ways._replace(anyone=True)
        elif kind == "loopback":
            ways = ways._replace(loopback=True)
        elif kind == "token":
            ways = ways._replace(token_path=value)
        elif kind == "cert":
            names = value.split(",")
            if not all(names):
                raise ValueError("an empty name")
            ways = ways._replace(names=frozenset(names))
        else:
            raise ValueError("no such way")
    return ways


def parse_node_access(text: str) -> NodeWays:
    """Read `any`, `cert` and `jwt:JWKS`, separated by `+`.

    Raises `ValueError` for anything else, and for a way that is there twice.
    """
    ways = NodeWays()
    for kind, value in _parts(_NODE_SPLIT, text, ("jwt",)):
        if kind == "any":
            ways = ways._replace(anyone=True)
        elif kind == "cert":
            ways = ways._replace(certificates=True)
        elif kind == "jwt":
            if ":/" in value and not _usable_url(value):
                raise ValueError("no URL that can be fetched")
            ways = ways._replace(jwks=value)
        else:
            raise ValueError("no such way")
    return ways


def _usable_url(text: str) -> bool:
    parts = urlsplit(text)
    return (
        is_url(text)
        and parts.port != 0  # reading it is what makes urlsplit check it
        and parts.username is None
        and not parts.fragment
        and not parts.query  # which may be a secret, and GET /params shows it
        and re.fullmatch(r"[!-~]+", text) is not None
    )


def _parts(split: re.Pattern[str], text: str, valued: tuple[str, ...]) -> list[tuple[str, str]]:
    """Take a text apart into ways and their values; raises `ValueError`."""
    text.encode("utf-8")  # fails for what the system could not decode
    parts = []
    for part in split.split(text):
        kind, _, value = part.partition(":")
        if (kind in valued) != bool(value) or (":" in part and kind not in valued):
            raise ValueError("a value is missing, or too much")
        parts.append((kind, value))
    kinds = [kind for kind, _ in parts]
    if len(set(kinds)) != len(kinds):
        raise ValueError("a way is there twice")
    return parts
