"""JSON as Go reads it: what it takes, and fields that are found in any case."""

import json
import re
from itertools import permutations
from typing import NoReturn

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.go_json import decode_object, pick
from tests.support.invalid_inputs import NOT_OBJECTS, ODD_VALUES

NAMES = ["Component", "Hostname", "NID", "Status", "Timestamp", "XNames", "Use_telemetry"]


def read_slowly(body: bytes) -> object:
    """Return what `decode_object` should return, as read by Python's own parser."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    def last(pairs: list[tuple[str, object]]) -> dict[object, object]:
        # Keys that differ in their lone surrogates alone are one key, of which the last counts.
        return {whole(key): each for key, each in pairs}

    read: dict[str, object] = json.loads(
        body.decode("utf-8", "surrogateescape"),
        parse_int=lambda _: True,
        parse_float=lambda _: True,
        parse_constant=refuse,
        object_pairs_hook=last,
    )
    if not isinstance(read, dict):
        raise ValueError("no object")
    return whole(read)


def whole(value: object) -> object:
    """Return a value with the lone surrogates in its texts replaced."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [whole(each) for each in value]
    if isinstance(value, dict):
        return {whole(key): whole(each) for key, each in value.items()}
    return value


PIECES = st.sampled_from(
    [
        *(
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b'"',
            b"\\",
            b" ",
            b"\n",
            b"\t",
            b"\x01",
            b"\x7f",
            b"\xff",
        ),
        *(
            b"\xe2\x82",
            b"\xc3\xa9",
            b"\xed\xa0\x80",
            b"\\u",
            b"d800",
            b"DC00",
            b"\\ud83d\\ude00",
            b"true",
        ),
        *(
            b"null",
            b"0",
            b"-",
            b".",
            b"1e999",
            b"e",
            b"+",
            b"9" * 310,
            b'""',
            b'"a":',
            b'{"b":',
            b"[]",
        ),
    ]
)
TEXTS = st.lists(
    st.sampled_from(
        [
            *(
                b"a",
                b"\\\\",
                b'\\"',
                b"\\ud800",
                b"\\uDC00",
                b"\\ud83d\\ude00",
                b"\xff",
                b"\xe2\x82",
            ),
            *(b"[", b"}", b"1e999", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\\n", b"\\u0041", b","),
        ]
    ),
    max_size=4,
).map(lambda pieces: b'"' + b"".join(pieces) + b'"')
SCALARS = st.one_of(
    TEXTS, st.sampled_from([b"1e999", b"-0", b"1.5E-7", b"9" * 400, b"null", b"true", b"false"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda each: b"[" + b" ,".join(each) + b"]"),
        st.lists(st.tuples(TEXTS, inner), max_size=3).map(
            lambda pairs: b"{" + b",".join(key + b": " + value for key, value in pairs) + b"}"
        ),
    ),
)


class DecodeTests(SynchronousTestCase):
    """Which bodies `decode_object` takes, and how it reads them."""

    def assert_like_python(self, body: bytes) -> None:
        """Check that a body is read as Python's parser reads it, or refused by both."""
        try:
            expected = read_slowly(body)
        except ValueError:
            with self.assertRaises(ValueError, msg=body):
                decode_object(body)
        else:
            self.assertEqual(decode_object(body), expected, body)

    @settings(max_examples=500)
    @given(st.lists(st.tuples(TEXTS, VALUES), min_size=1, max_size=3), st.binary(max_size=1))
    def test_objects(self, pairs, junk):
        """Objects are read like by Python's parser, but for numbers, and lone surrogates."""
        body = b"{" + b",".join(key + b":" + value for key, value in pairs) + b"}"
        self.assert_like_python(body)
        self.assert_like_python(body[: len(body) // 2] + junk + body[len(body) // 2 :])

    @settings(max_examples=1000)
    @given(st.lists(PIECES, max_size=12))
    def test_pieces(self, pieces):
        """Pieces of JSON in any order are read, or refused, like by Python's parser."""
        self.assert_like_python(b'{"k":' + b"".join(pieces) + b"}")

    def test_keys_alike(self):
        """Of keys that have become alike, the last counts, whatever order they were in before."""
        self.assert_like_python(b'{"\\ud800":"a","\\udc00":"b","\\ud800":"c"}')

    def test_refused(self):
        """What is no JSON object is refused, at any depth."""
        for body in NOT_OBJECTS:
            with self.assertRaises(ValueError, msg=body[:50]):
                decode_object(body)

    def test_odd(self):
        """Odd values are taken, and texts beside them are not touched."""
        text = b'"1e999 [{\\\\ud800 ]\\" 01"'
        for value in ODD_VALUES:
            read = decode_object(b'{"a":%b,"b":%b,"c":[%b]}' % (text, value, value[:0] or b"1"))
            assert isinstance(read, dict)
            self.assertEqual((read["a"], read["c"]), ('1e999 [{\\ud800 ]" 01', [True]))

    def test_depth(self):
        """Ten thousand levels are read, of arrays, objects and both, and no more."""
        for opening, closing in ((b"[", b"]"), (b'{"[":', b"}"), (b'[{"}":', b"}]")):
            levels = opening.count(b"[") + opening.count(b"{") - opening.count(b'"[')
            for deep in (1, 998, 999, 1000, 1001, 1022, 1023, 1024, 2000, 9999):
                count = deep // levels
                body = b'{"a":' + opening * count + b"1" + closing * count + b',"b":"]"}'
                read = decode_object(body)
                assert isinstance(read, dict)
                self.assertEqual(read["b"], "]")
                with self.assertRaises(ValueError):
                    decode_object(body.replace(b"1", b"", 1).replace(b"]", b"}", 1))
            with self.assertRaises(ValueError):
                decode_object(b'{"a":' + opening * 10_000 + b"1" + closing * 10_000 + b"}")


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """Generate a field's name, and the same in a mixture of cases."""
    name = draw(st.sampled_from(NAMES))
    upper = draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    cased = (c.upper() if up else c.lower() for c, up in zip(name, upper, strict=True))
    return name, "".join(cased)


def pick_one(source: dict[str, object], name: str) -> object:
    """Return the value of one field."""
    (value,) = pick(source, [name])
    return value


class PickTests(SynchronousTestCase):
    """Which values `pick` returns."""

    @settings(max_examples=100)
    @given(spellings())
    def test_any_case(self, spelling):
        """A field among others is found in any case."""
        name, written = spelling
        self.assertEqual(pick_one({"other": 1, written: "value", "more": 2}, name), "value")

    def test_exact_wins(self):
        """The exact case wins in any position."""
        for order in permutations(["Status", "status", "STATUS"]):
            self.assertEqual(pick_one({key: key for key in order}, "Status"), "Status")

    def test_exact_null_wins(self):
        """The exact case wins even if its value is null or empty."""
        for value in (None, ""):
            self.assertEqual(pick_one({"Status": value, "status": "up"}, "Status"), value)
            self.assertEqual(pick_one({"status": "up", "Status": value}, "Status"), value)

    def test_last_of_the_others(self):
        """Without the exact case the last one counts, as it does for equal names in JSON."""
        self.assertEqual(pick_one({"STATUS": 1, "status": 2}, "Status"), 2)
        self.assertEqual(pick_one({"status": 2, "STATUS": 1}, "Status"), 1)

    def test_missing(self):
        """A missing field is `None`; similar names are not the field."""
        for key in ("Statu", "Statuss", " Status", "Sta-tus", "", "S"):
            self.assertIsNone(pick_one({key: "up"}, "Status"))
        self.assertIsNone(pick_one({}, "Status"))

    def test_values_untouched(self):
        """A value of any type is returned unchanged."""
        values: list[object] = [0, False, 1.5, [], {"a": 1}, "", "text"]
        for value in values:
            self.assertIs(pick_one({"NId": value}, "NID"), value)

    def test_many(self):
        """Values are in the order of the names requested."""
        source = {"nid": 1, "Status": 2, "TIMESTAMP": 3}
        names = ["Timestamp", "NID", "Hostname", "Status"]
        self.assertEqual(pick(source, names), [3, 1, None, 2])
