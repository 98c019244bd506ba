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
    """The rules of `operator_access`: a client that meets at least one of them is an operator."""

    anyone: bool = False
    """Whether every client is an operator."""
    loopback: bool = False
    """Whether clients on this host are operators."""
    token_path: str = ""
    """The path of the file with the bearer tokens of operators; empty if there is none."""
    names: frozenset[str] = frozenset()
    """A client whose certificate has one of these common names is an operator."""


class NodeRules(NamedTuple):
    """The rules of `node_access`: a node is accepted if it meets at least one of them."""

    anyone: bool = False
    """Whether nodes need no credentials."""
    certificates: bool = False
    """Whether a node may identify itself by a client certificate that names its component."""
    jwks: str = ""
    """The path or URL of the JSON Web Key Set (JWKS) that verifies nodes' JSON Web Tokens.

    It is empty if such tokens are not accepted.
    """

    @property
    def jwks_url(self) -> str:
        """The URL of the JSON Web Key Set (JWKS); empty if there is none, or if it is in a file."""
        return self.jwks if is_url(self.jwks) else ""


def is_url(text: str) -> bool:
    """Return whether a text is an http or https URL."""
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def parse_operator_access(text: str) -> OperatorRules:
    """Parse rules `loopback`, `token:PATH`, `cert:NAME[,NAME...]` and `any`, separated by `+`.

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
    """Parse rules `any`, `cert` and `jwt:JWKS`, separated by `+`.

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
    """Split rules such as `loopback+token:PATH` into pairs of kind and value.

    `split` matches the plus signs between rules, and `valued` has the kinds that take a value. The
    value is empty for other kinds. Raise `ValueError` if a value is missing or superfluous, if two
    rules are of the same kind, or if the text can't be encoded in UTF-8.
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
