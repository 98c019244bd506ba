"""Types of parameters: how values are parsed and shown, and what messages say of invalid values.

`hbtd.config.params` says which parameter has which type.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hbtd.config.access_rules import parse_node_access, parse_operator_access
from hbtd.formats.go_integers import parse_integer

_VISIBLE = re.compile(r"[!-~]+")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")  # what Kafka allows

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{0,255}")  # the SPIFFE ID standard, section 2.1

_DURATION = re.compile(r"([0-9]{1,12})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_HISTORY = 36500 * 86400
_LONGEST_MAINTENANCE = 365 * 86400

LONGEST_HOLD = 86400
"""The most seconds for which the guard may let a death wait."""

_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"0", "no", "false", "off"})
SWITCH_WORDS = _TRUE | _FALSE
"""The words for yes and no as values of options, in lower case; upper case is accepted, too."""


class ValueType(NamedTuple):
    """A type of parameter: how its values are parsed, checked and shown."""

    parse: Callable[[str], Any]
    """A function that converts a text to a value; it raises `ValueError` for an invalid text."""
    allowed: str
    """A description of the valid values, which error messages put after "must be"."""
    render: Callable[[Any], str] = str
    """A function that converts a value to the text that `GET /params` shows."""
    refusal: str = "with illegal value"
    """The words between the parameter's name and the invalid value in `PATCH /params` errors."""


class TelemetryAddress(NamedTuple):
    """A Kafka broker and the topic to publish on."""

    host: str
    port: int
    topic: str


def parse_telemetry_host(text: str) -> TelemetryAddress:
    """Parse `host:port:topic`; raise `ValueError` if a part is missing or invalid."""
    host, port, topic = text.split(":")
    number = parse_integer(port, bits=16, signed=False)
    if not _VISIBLE.fullmatch(host) or not _TOPIC.fullmatch(topic) or not number:
        raise ValueError("a part is missing or can't be used")
    return TelemetryAddress(host, number, topic)


def _text(text: str) -> str:
    text.encode("utf-8")  # raises ValueError for bytes that the system could not decode
    return text


def _non_empty_text(text: str) -> str:
    if not text:
        raise ValueError("empty")
    return _text(text)


def _trust_domain(text: str) -> str:
    if not _TRUST_DOMAIN.fullmatch(text):
        raise ValueError("not the name of a trust domain")
    return text


def _switch(text: str) -> bool:
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("neither yes nor no")


def _render_switch(value: bool) -> str:
    return "1" if value else "0"


def _integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of integers from `low` to `high`, both included."""

    def parse(text: str) -> int:
        value = parse_integer(text, bits=32, signed=False)
        if not low <= value <= high:
            raise ValueError("out of range")
        return value

    return parse


def _telemetry_host(text: str) -> str:
    if text:
        parse_telemetry_host(text)
    return text


def _telemetry_sasl(text: str) -> str:
    if text not in ("plain", "scram-sha-256", "scram-sha-512"):
        raise ValueError("unknown")
    return text


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    # Reading the port makes urlsplit check it.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not a URL")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("more than a base URL")
    if not _VISIBLE.fullmatch(text):
        raise ValueError("characters that a URL can't have")
    return text


def _kv_url(text: str) -> str:
    if text in ("", "mem:") or re.match("sqlite:.", text):
        return _text(text)
    urls = []
    for url in text.split(","):
        # Schemes are case-insensitive (RFC 3986, section 3.1). In lower case they are easy to test.
        scheme, _, rest = _base_url(url).partition(":")
        urls.append(f"{scheme.lower()}:{rest}")
    return ",".join(urls)


def _addresses(text: str) -> str:
    if not text:
        return ""
    return ",".join(str(ip_address(each.strip().strip("[]"))) for each in text.split(","))


def _reader_access(text: str) -> str:
    if text not in ("any", "operators"):
        raise ValueError("neither any nor operators")
    return text


def _log_format(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError("no such format")
    return text


def _kv_compact(text: str) -> str:
    if text not in ("auto", "yes", "no"):
        raise ValueError("no such choice")
    return text


def _guard(text: str) -> str:
    if text not in ("off", "report", "hold"):
        raise ValueError("no such choice")
    return text


def _guard_hold(text: str) -> str:
    return text if text == "auto" else str(_integer(1, LONGEST_HOLD)(text))


def parse_duration(text: str) -> int:
    """Parse a duration, such as `30d`; return it in seconds.

    Raise `ValueError` if the text is not a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a duration")
    return int(match[1]) * _UNITS[match[2]]


def parse_history(text: str) -> int:
    """Parse a duration, such as `30d`, or `0`; return it in seconds.

    Raise `ValueError` if the text is not a duration, or is longer than 36500 days.
    """
    seconds = 0 if text == "0" else parse_duration(text)
    if seconds > _LONGEST_HISTORY:
        raise ValueError("too long")
    return seconds


def _history(text: str) -> str:
    parse_history(text)
    return text


def _history_count(text: str) -> str:
    return text if text == "auto" else str(_integer(0, _MAX)(text))


def _maintenance_max(text: str) -> str:
    if not 1 <= parse_duration(text) <= _LONGEST_MAINTENANCE:
        raise ValueError("too short or too long")
    return text


def _operator_access(text: str) -> str:
    parse_operator_access(text)
    return text


def _node_access(text: str) -> str:
    parse_node_access(text)
    return text


_MAX = 2**32 - 1

TEXT = ValueType(_text, "a text in UTF-8")
NON_EMPTY_TEXT = ValueType(_non_empty_text, "a text in UTF-8, and not empty")
TRUST_DOMAIN = ValueType(
    _trust_domain,
    "a name of at most 255 lower-case letters, digits, '.', '_' and '-', without spiffe://",
)
NON_NEGATIVE_INTEGER = ValueType(_integer(0, _MAX), f"an integer from 0 to {_MAX}")
POSITIVE_INTEGER = ValueType(_integer(1, _MAX), f"an integer from 1 to {_MAX}")
SECONDS = ValueType(_integer(1, _MAX), f"a whole number of seconds from 1 to {_MAX}")
AGE_SECONDS = ValueType(_integer(0, 2592000), "a whole number of seconds from 0 to 2592000")
TIMEOUT_SECONDS = ValueType(_integer(1, 86400), "a whole number of seconds from 1 to 86400")
PORT = ValueType(_integer(0, 65535), "a port number from 0 (any free one) to 65535")
HEADER_BYTES = ValueType(_integer(1024, 2**20), f"a number of bytes from 1024 to {2**20}")
BODY_BYTES = ValueType(_integer(2**16, 2**30), f"a number of bytes from {2**16} to {2**30}")
HEARTBEATS = ValueType(_integer(1, 100), "an integer from 1 to 100")
CHANGES = ValueType(_integer(0, 100), "an integer from 0 to 100")
SWITCH = ValueType(_switch, "yes, no, true, false, on, off, 1 or 0", _render_switch)
ADDRESSES = ValueType(_addresses, "IP addresses, separated by commas")
LOG_FORMAT = ValueType(_log_format, "text or json")
SYNC_SECONDS = ValueType(_integer(0, 86400), "an integer from 0 to 86400")
TELEMETRY_SASL = ValueType(_telemetry_sasl, "plain, scram-sha-256 or scram-sha-512")
GUARD = ValueType(_guard, "off, report or hold")
GUARD_SHARE = ValueType(_integer(1, 100), "a whole number of percent from 1 to 100")
GUARD_HOLD = ValueType(_guard_hold, f"auto, or a whole number of seconds from 1 to {LONGEST_HOLD}")
KV_COMPACT = ValueType(_kv_compact, "auto, yes or no")
HISTORY = ValueType(
    _history, "0, or a whole number with a unit, s, m, h or d, of no more than 36500d"
)
HISTORY_COUNT = ValueType(_history_count, f"auto, or an integer from 0 to {_MAX}")
MAINTENANCE_MAX = ValueType(
    _maintenance_max, "a whole number with a unit, s, m, h or d, from 1s to 365d"
)
TELEMETRY_HOST = ValueType(
    _telemetry_host,
    "host:port:topic, with a port from 1 to 65535 and a topic of letters, digits, '.', '_' and '-'",
    refusal="with invalid format",
)
BASE_URL = ValueType(
    _base_url, "an http:// or https:// base URL, without credentials, query and fragment"
)
KV_URL = ValueType(
    _kv_url,
    "mem:, sqlite:PATH, or http:// or https:// base URLs of etcd, without credentials, separated by"
    " commas",
)
OPERATOR_ACCESS = ValueType(
    _operator_access,
    "loopback, token:PATH, cert:NAME[,NAME...] or any, or several of these separated by '+'",
)
READER_ACCESS = ValueType(_reader_access, "any or operators")
NODE_ACCESS = ValueType(
    _node_access, "any, cert or jwt:JWKS, a path or a URL, or several of these separated by '+'"
)
