"""Operators' token files: names and expiry, without a secret ever being said."""

import os
import time
from datetime import datetime, timezone
from math import inf

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.access.tokens import Token, TokenFile, TokensUnusable, parse_tokens

SECRET = "a-token-that-operators-have"
HEX = "3f9c0d4b5a6e7f8091a2b3c4d5e6f708"  # as `openssl rand -hex 16` prints one


def at(*when: int) -> float:
    """Return a time in UTC as seconds since the epoch."""
    return datetime(*when, tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type,misc]


class ParseTests(SynchronousTestCase):
    """What a line of a token file means."""

    def parse(self, line: str) -> Token:
        """Return the only token of a file whose second line is given."""
        (token,) = parse_tokens(f"# tokens\n{line}\n".encode(), "/tokens")
        return token

    def test_names(self) -> None:
        """A name stands before a colon; a token without one is named by its line."""
        for line, token in (
            (SECRET, Token("in line 2", SECRET.encode())),
            (f"alice:{SECRET}", Token("alice", SECRET.encode())),
            (
                f" ops@site-1.x_y:{SECRET}:more\t",
                Token("ops@site-1.x_y", f"{SECRET}:more".encode()),
            ),
        ):
            self.assertEqual(self.parse(line), token)

    def set_zone(self, zone: str | None) -> None:
        """Set the time zone of the process."""
        os.environ.pop("TZ", None)
        if zone is not None:
            os.environ["TZ"] = zone
        time.tzset()

    def test_expiry(self) -> None:
        """A token may expire at a time or at the beginning of a day, in UTC if nothing is said."""
        before = os.environ.get("TZ")
        self.addCleanup(self.set_zone, before)
        self.set_zone("America/Lima")
        for text, expires in (
            ("", inf),
            (" expires=2027-01-31", at(2027, 1, 31)),
            ("\texpires=2027-01-31T12:30:00", at(2027, 1, 31, 12, 30)),
            (" expires=2027-01-31T12:30:00Z", at(2027, 1, 31, 12, 30)),
            ("  expires=2027-01-31T12:30:00+02:00", at(2027, 1, 31, 10, 30)),
        ):
            for name in ("", "alice:"):
                self.assertEqual(self.parse(f"{name}{SECRET}{text}").expires, expires, text)

    def test_refused(self) -> None:
        """A line that is no token is refused, with its number, its fault, and none of its text."""
        for line, why in (
            (f"{HEX}:{SECRET}", "a name before the colon"),
            (f":{SECRET}", "a name before the colon"),
            (f"1alice:{SECRET}", "a name before the colon"),
            (f"al/ice:{SECRET}", "a name before the colon"),
            (f"{SECRET}:alice", "a secret has at least 16 characters"),
            ("alice:short", "a secret has at least 16 characters"),
            (f"{SECRET} {HEX}", "only expires=TIME may follow"),
            (f"{SECRET} expires=2027-01-31 {HEX}", "only expires=TIME may follow"),
            (f"{SECRET} expires={HEX}", "expires= takes a day or a time"),
            (f"{SECRET} expires=", "expires= takes a day or a time"),
            (f"{SECRET} expires=2027-02-30", "expires= takes a day or a time"),
            (f"{SECRET}\xe9", "it is not ASCII"),
        ):
            with self.assertRaises(TokensUnusable) as raised:
                self.parse(line)
            said = str(raised.exception)
            self.assertIn("line 2 of /tokens is no token: ", said, line)
            self.assertIn(why, said, line)
            for word in (SECRET, HEX, "alice", "short"):
                self.assertNotIn(word, said)
            self.assertIsNone(raised.exception.__cause__)

    def test_unseen(self) -> None:
        """What a token is printed as has no secret."""
        for token in (Token("alice", SECRET.encode()), [Token("alice", SECRET.encode(), 1.0)]):
            self.assertIn("alice", repr(token))
            self.assertNotIn(SECRET, f"{token!r} {token!s}")

    @given(st.binary())
    def test_any_content(self, content: bytes) -> None:
        """Any file is accepted or refused; no name in it is as long as a secret in hexadecimal."""
        try:
            tokens = parse_tokens(content, "/tokens")
        except TokensUnusable:
            return
        for token in tokens:
            self.assertLess(len(token.name), len(HEX))
            self.assertGreaterEqual(len(token.secret), 16)

    @given(st.from_regex(r"\A[A-Za-z][A-Za-z0-9._@-]{0,30}\Z"), st.from_regex(r"\A[!-~]{16,80}\Z"))
    def test_any_name_and_secret(self, name: str, secret: str) -> None:
        """Name and secret are told apart, whatever the secret consists of."""
        self.assertEqual(self.parse(f"{name}:{secret}"), Token(name, secret.encode()))


class AccessibleFileTests(SynchronousTestCase):
    """A token file that everybody on the host may read."""

    def write(self, path: str, line: str) -> None:
        """Write the file with a line."""
        with open(path, "w") as file:
            file.write(f"{line}\n")
        os.chmod(path, 0o644)

    def test_said_when_it_is_used(self) -> None:
        """That is said once when the file is used, and not again and again while it can't be."""
        path = self.mktemp()
        self.write(path, SECRET)
        with capturedLogs() as events:
            tokens = TokenFile(path)
            self.assertEqual(len(events), 1)
            self.write(path, "short")
            for _ in range(20):
                tokens.watched.check()
            said = [event for event in events if "accessible" in event["log_format"]]
            self.assertEqual(len(said), 1)
            self.write(path, f"alice:{SECRET}")
            for _ in range(20):
                tokens.watched.check()
        said = [event for event in events if "accessible" in event["log_format"]]
        self.assertEqual(len(said), 2)
