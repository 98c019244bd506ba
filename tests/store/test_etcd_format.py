"""The values in etcd: written as the original hbtd does, read with care."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import adopted
from hbtd.config.params import Params
from hbtd.formats import xnames
from hbtd.store.etcd_format import (
    EVERYTHING,
    HEALTH,
    JUDGEMENT,
    LIFE,
    LOCK,
    PARAMS,
    PRESENCE,
    REQUEST,
    InvalidValue,
    StoredJudgement,
    is_record,
    judgement_value,
    read_judgement,
    read_params,
    read_record,
    record_value,
)
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition

WALL = 1_790_000_000.0
NAMES = st.sampled_from(["x0", "x1000c7s7b1n3", "x9999c0"])
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("Component", "Last_hb_rcv_time", "Last_hb_timestamp", "Last_hb_status", "Had_warning")


class RecordTests(SynchronousTestCase):
    """Records."""

    def test_bytes(self):
        """A record is written byte for byte as the original hbtd writes it."""
        record = Record("x0c0s0b0n0", 3.5, "2026-11-23T00:00:00Z", "OK", True)
        self.assertEqual(
            record_value(record, 1_790_000_000.0),
            b'{"Component":"x0c0s0b0n0","Last_hb_rcv_time":"6ab13b7c",'
            b'"Last_hb_timestamp":"2026-11-23T00:00:00Z","Last_hb_status":"OK",'
            b'"Had_warning":"WN"}',
        )
        self.assertTrue(
            record_value(record._replace(warned=False), 0.0).endswith(b'"Had_warning":""}')
        )
        self.assertIn(b'"Last_hb_rcv_time":"0"', record_value(record, 0.0))

    @given(NAMES, st.floats(0, 1e9), TEXTS, TEXTS, st.booleans())
    def test_round_trip(self, name, age, timestamp, status, warned):
        """A record that was written is read back, its age to within a second."""
        record = Record(name, age, timestamp, status, warned)
        value = record_value(record, WALL)
        self.assertEqual(list(json.loads(value)), list(FIELDS))
        read = read_record(name.encode(), value, WALL).record
        self.assertEqual(read._replace(age=age), record)
        self.assertTrue(age <= read.age + 1e-6 <= age + 1.0 + 1e-6, (age, read.age))

    def test_of_the_original(self):
        """Both marks of a warning count, a future time counts as now, a missing field as empty."""
        for stored, expected in (
            ({"Had_warning": "WG"}, Record("x1", 0.0, "", "", True)),
            ({"Last_hb_rcv_time": format(int(WALL) + 99, "x")}, Record("x1", 0.0, "", "", False)),
            ({"Last_hb_rcv_time": format(int(WALL) - 9, "X")}, Record("x1", 9.0, "", "", False)),
            ({"Last_hb_timestamp": None}, Record("x1", 0.0, "", "", False)),
            ({"more": {"than": ["we", "know"]}}, Record("x1", 0.0, "", "", False)),
            ({"Component": "x2"}, Record("x1", 0.0, "", "", False)),
        ):
            read = read_record(b"x1", json.dumps(stored).encode(), WALL)
            self.assertEqual(read.record, expected)

    def test_unusable(self):
        """A value that is not a record raises an error with the reason."""
        for key, value, reason in (
            (b"x1", b"", "JSON"),
            (b"x1", b"\xff", "JSON"),
            (b"x1", b"[]", "object"),
            (b"x1", b'{"Last_hb_status": 1}', "Last_hb_status"),
            (b"x1", b'{"Last_hb_rcv_time": "xyz"}', "xyz"),
            (b"x01", b"{}", "xname"),
            (b"x1\xff", b"{}", "xname"),
            (b"x1 ", b"{}", "xname"),
        ):
            with self.assertRaises(InvalidValue) as raised:
                read_record(key, value, WALL)
            self.assertIn(reason, str(raised.exception))

    @given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()), st.binary())
    def test_anything(self, value, key):
        """Any value is read as a record or raises `InvalidValue`, and nothing else."""
        for each in (b"x1", key):
            try:
                record = read_record(each, value, WALL).record
            except InvalidValue as error:
                self.assertEqual(len(str(error).splitlines()), 1)
            else:
                self.assertGreaterEqual(record.age, 0.0)

    @given(st.dictionaries(st.sampled_from(FIELDS), JSON))
    def test_any_fields(self, stored):
        """The same is true of any values of the fields."""
        try:
            record = read_record(b"x1", json.dumps(stored).encode(), WALL).record
        except InvalidValue:
            return
        self.assertGreaterEqual(record.age, 0.0)
        record_value(record, WALL)


class JudgementTests(SynchronousTestCase):
    """Judgements."""

    @given(NAMES, st.sampled_from(Transition), TEXTS, st.integers(0, 2**53 - 1), st.booleans())
    def test_round_trip(self, name, transition, timestamp, number, delivered):
        """A judgement that was written is read back."""
        kept = StoredJudgement(Judgement(name, transition, timestamp), number, delivered)
        self.assertEqual(read_judgement(JUDGEMENT + name.encode(), judgement_value(kept)), kept)

    @given(
        JSON
        | st.fixed_dictionaries(
            {"Transition": st.sampled_from(["DIED", "died"]) | JSON, "Number": JSON},
            optional={"Timestamp": JSON, "Delivered": JSON},
        )
    )
    def test_anything(self, value: Any) -> None:
        """Any value is read as a judgement or raises `InvalidValue`, and nothing else."""
        with_key = JUDGEMENT + b"x1"
        try:
            kept = read_judgement(with_key, json.dumps(value).encode())
        except InvalidValue:
            return
        self.assertEqual(kept.judgement.component, "x1")

    def test_huge_number(self):
        """A number that is not finite, or not a number, raises nothing but `InvalidValue`."""
        for number in ("1e400", "1e30", '"nan"', "[]"):
            value = f'{{"Transition":"DIED","Timestamp":"t","Number":{number},"Delivered":true}}'
            try:
                read_judgement(JUDGEMENT + b"x1", value.encode())
            except InvalidValue:
                continue


class ParamsTests(SynchronousTestCase):
    """Parameters that other replicas have written."""

    @given(st.dictionaries(st.sampled_from(list(Params(kv_url="mem:").rendered())), JSON | TEXTS))
    def test_anything(self, values):
        """Valid parameters are adopted, unless they can't be changed; invalid ones are not."""
        ours = Params(kv_url="mem:", port=1234)
        try:
            read = read_params(json.dumps(values).encode())
        except InvalidValue:
            return
        new = adopted(ours, read)
        self.assertEqual((new.port, new.kv_url), (1234, "mem:"))
        self.assertEqual(adopted(new, new.rendered()), new)

    def test_case(self):
        """Names of parameters count in upper and lower case."""
        new = adopted(Params(kv_url="mem:"), {"WARNTIME": "7", "errtime": "0x10", "Interval": 3})
        self.assertEqual((new.warntime, new.errtime, new.interval), (7, 16, 5))


class KeyTests(SynchronousTestCase):
    """Keys."""

    def test_ranges(self):
        """All keys that replicas have to watch are in one range."""
        start, end = EVERYTHING
        for key in (PARAMS, LOCK, LIFE + b"1", JUDGEMENT, REQUEST, PRESENCE, b"x0", b"x9", b"all"):
            self.assertTrue(start <= key < end, key)
        self.assertFalse(start <= HEALTH[0] < end)

    def test_records(self):
        """Records are those from x0 to xz, and those of components outside of cabinets."""
        self.assertTrue(is_record(b"x0") and is_record(b"x1000c0s0b0n0"))
        for key in (b"params", JUDGEMENT + b"x0", LOCK, LIFE + b"1", b"xz", b"x", b"X0", b"y0"):
            self.assertFalse(is_record(key), key)

    def test_records_of_all(self):
        """The record of any component that can send heartbeats is in the ranges of records."""
        for name in ("all", "all_comp", "all_svc", "p1.2", "s0", "sms9", "d7", "d7w1", "x1d1"):
            self.assertEqual(xnames.parse(name), name)
            self.assertTrue(is_record(name.encode()), name)
            self.assertTrue(EVERYTHING[0] <= name.encode() < EVERYTHING[1], name)
