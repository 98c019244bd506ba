"""Messages on Kafka: their exact bytes, whatever the timestamp of a heartbeat."""

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.telemetry.messages import key, value
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.telemetry import SAID

NODE = "x1000c0s0b0n0"

# A timestamp, and how it is written in JSON.
TIMESTAMPS = [
    ("2026-11-23T00:00:00Z", b"2026-11-23T00:00:00Z"),
    ("", b""),
    ('say "when"', rb"say \"when\""),
    ("C:\\clock", rb"C:\\clock"),
    ("a/b", b"a/b"),
    ("\b\t\n\f\r", rb"\b\t\n\f\r"),
    ("\x00\x1b\x1f", rb"\u0000\u001b\u001f"),
    ("\x7f\x85", b"\x7f\xc2\x85"),
    ("fünf Uhr früh", b"f\xc3\xbcnf Uhr fr\xc3\xbch"),
    ("\u2028", b"\xe2\x80\xa8"),
    ("午前", b"\xe5\x8d\x88\xe5\x89\x8d"),
    ("\U0001f550", b"\xf0\x9f\x95\x90"),
]


class MessageTests(SynchronousTestCase):
    """Keys and values of messages."""

    def test_key(self):
        """The key is the xname."""
        self.assertEqual(key(Judgement(NODE, Transition.DIED, "now")), b"x1000c0s0b0n0")

    def test_each_transition(self):
        """Each transition has its state, flag and text, in compact JSON with ordered fields."""
        self.assertEqual(set(SAID), set(Transition))
        for transition, (state, flag, info) in SAID.items():
            self.assertEqual(
                value(Judgement(NODE, transition, "2026-11-23T00:00:00Z")).decode("ascii"),
                '{"MessageID":"Heartbeat Change Notification","ID":"x1000c0s0b0n0",'
                f'"NewState":"{state}","NewFlag":"{flag}",'
                f'"LastHBTimeStamp":"2026-11-23T00:00:00Z","Info":"{info}"}}',
            )

    def test_timestamps(self):
        """A timestamp is escaped where JSON requires it, and otherwise UTF-8."""
        for timestamp, written in TIMESTAMPS:
            self.assertEqual(
                value(Judgement(NODE, Transition.STARTED, timestamp)),
                b'{"MessageID":"Heartbeat Change Notification","ID":"x1000c0s0b0n0",'
                b'"NewState":"Ready","NewFlag":"OK","LastHBTimeStamp":"'
                + written
                + b'","Info":"Heartbeat started."}',
            )

    @given(st.sampled_from(Transition), st.text())
    def test_any_timestamp(self, transition, timestamp):
        """Every message is one line of JSON in UTF-8, and is parsed to the same values."""
        said = value(Judgement(NODE, transition, timestamp))
        self.assertNotIn(b"\n", said)
        state, flag, info = SAID[transition]
        self.assertEqual(
            list(json.loads(said.decode("utf-8")).items()),
            [
                ("MessageID", "Heartbeat Change Notification"),
                ("ID", NODE),
                ("NewState", state),
                ("NewFlag", flag),
                ("LastHBTimeStamp", timestamp),
                ("Info", info),
            ],
        )
