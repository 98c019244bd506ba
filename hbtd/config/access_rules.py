"""The rules of access: how clients prove that they are operators or nodes.

The rules are the values of the options `operator_access` and `node_access` (docs/security.md).
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

# Paths and names may contain plus signs: one separates rules only if a rule follows it.
_OPERATOR_SPLIT = re.compile(r"\+(?=(?:any|loopback)(?:\+|$)|token:|cert:)")
_NODE_SPLIT = re.compile(r"\+(?=(?:any|cert)(?:\+|$)|jwt:)")


class OperatorRules(NamedTuple):
    """Rules that decide which clients are operators: those that meet at least one of them."""

    anyone: bool = False
    """Every client is an operator."""
    loopback: bool = False
    """Clients on this host are operators."""
    token_path: str = ""
    """Clients that send a bearer token in this file are operators; empty if there is no file."""
    names: frozenset[str] = frozenset()
    """Clients whose certificate has one of these common names are operators."""


class NodeRules(NamedTuple):
    """Rules that decide which credentials nodes need: those that meet one of the rules suffice."""

    anyone: bool = False
    """No credentials are needed."""
    certificates: bool = False
    """A client certificate that names the component suffices."""
    jwks: str = ""
    """A JWT signed with a key of the JWKS at this path or URL suffices; empty if there is none."""

    @property
    def jwks_url(self) -> str:
        """The URL of the JWKS; empty if there is no JWKS, or if it is a file."""
        return self.jwks if is_url(self.jwks) else ""


def is_url(text: str) -> bool:
    """Return whether a text is an http or https URL."""
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def parse_operator_access(text: str) -> OperatorRules:
    """Parse `loopback`, `token:PATH`, `cert:NAME[,NAME...]` and `any`, separated by `+`.

    Raise `ValueError` if the text contains anything else, or two rules of one kind.
    """
    rules = OperatorRules()
    for kind, value in _parts(_OPERATOR_SPLIT, text, ("token", "cert")):
        if kind == "any":
            rules = rules._replace(anyone=True)
        elif kind == "loopback":
            rules = rules._replace(loopback=True)
        elif kind == "token":
            rules = rules._replace(token_path=value)
        elif kind == "cert":
            names = value.split(",")
            if not all(names):
                raise ValueError("an empty name")
            rules = rules._replace(names=frozenset(names))
        else:
            raise ValueError("no such rule")
    return rules


def parse_node_access(text: str) -> NodeRules:
    """Parse `any`, `cert` and `jwt:JWKS`, separated by `+`.

    Raise `ValueError` if the text contains anything else, or two rules of one kind.
    """
    rules = NodeRules()
    for kind, value in _parts(_NODE_SPLIT, text, ("jwt",)):
        if kind == "any":
            rules = rules._replace(anyone=True)
        elif kind == "cert":
            rules = rules._replace(certificates=True)
        elif kind == "jwt":
            if ":/" in value and not _can_be_fetched(value):
                raise ValueError("not a URL that can be fetched")
            rules = rules._replace(jwks=value)
        else:
            raise ValueError("no such rule")
    return rules


def _can_be_fetched(url: str) -> bool:
    parts = urlsplit(url)
    return (
        is_url(url)
        and parts.port != 0  # reading the port makes urlsplit check it
        and parts.username is None
        and not parts.fragment
        and not parts.query  # it may hold a secret, which GET /params would show
        and re.fullmatch(r"[!-~]+", url) is not None
    )


def _parts(split: re.Pattern[str], text: str, valued: tuple[str, ...]) -> list[tuple[str, str]]:
    """Split the text of some rules into pairs of a rule's kind and its value.

    Raise `ValueError` if a kind in `valued` has no value, if another kind has one, if two rules are
    of one kind, or if the text can't be encoded.
    """
    text.encode("utf-8")  # raises ValueError for bytes that the system could not decode
    parts = []
    for part in split.split(text):
        kind, _, value = part.partition(":")
        if (kind in valued) != bool(value) or (":" in part and kind not in valued):
            raise ValueError("a missing or superfluous value")
        parts.append((kind, value))
    kinds = [kind for kind, _ in parts]
    if len(set(kinds)) != len(kinds):
        raise ValueError("two rules of one kind")
    return parts
