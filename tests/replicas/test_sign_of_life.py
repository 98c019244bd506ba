"""What the values of the replicas' presence keys say."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.replicas.sign_of_life import (
    MOST_NAMED,
    SignOfLife,
    Waiting,
    read_sign_of_life,
    waiting_at,
)

ADDRESSES = ("10.0.0.1", "fe80::1", "::1", "2001:db8::9%eth0")
XNAMES = ("x1c0s0b0n0", "s0", "p0", "all0", "x1000c0s0b0n1")
NAMED = st.builds(
    Waiting,
    st.frozensets(st.sampled_from(ADDRESSES)),
    st.frozensets(st.sampled_from(XNAMES)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


class SignOfLifeTests(SynchronousTestCase):
    """Values of presence keys."""

    @given(NAMED, st.booleans(), st.booleans())
    def test_back(self, waiting: Waiting, reads_blocks: bool, leads: bool) -> None:
        """What one replica writes, another reads."""
        sign = SignOfLife(b"nid1:28500", reads_blocks, waiting, leads)
        self.assertEqual(read_sign_of_life(sign.to_bytes()), sign)

    @given(NAMED, st.booleans())
    def test_for_earlier_replicas(self, waiting: Waiting, leads: bool) -> None:
        """Earlier replicas find their marks at the end, in their order."""
        value = SignOfLife(b"nid1:28500", True, waiting, leads).to_bytes()
        self.assertEqual(value.endswith(b" waiting"), bool(waiting))
        self.assertTrue(value.removesuffix(b" waiting").endswith(b" blocks"))

    def test_values(self) -> None:
        """The values are the documented ones; those of earlier replicas are read, too."""
        name = b"nid1:28500"
        for value, sign in (
            (b"nid1:28500", SignOfLife(name, False)),
            (b"nid1:28500 blocks", SignOfLife(name, True)),
            (b"nid1:28500 leads blocks", SignOfLife(name, True, leads=True)),
            (
                b"nid1:28500 leads for new blocks waiting",
                SignOfLife(name, True, Waiting(fresh=True), leads=True),
            ),
            (
                b"nid1:28500 for new 10.0.0.1 x1c0s0b0n0 blocks waiting",
                SignOfLife(
                    name, True, Waiting(frozenset({"10.0.0.1"}), frozenset({"x1c0s0b0n0"}), True)
                ),
            ),
            (
                b"nid1:28500 for here 10.0.0.1 blocks waiting",
                SignOfLife(name, True, Waiting(frozenset({"10.0.0.1"}), heard_here=True)),
            ),
            (
                b"nid1:28500 for all blocks waiting",
                SignOfLife(name, True, Waiting(everybody=True)),
            ),
        ):
            self.assertEqual(read_sign_of_life(value), sign)
            self.assertEqual(sign.to_bytes(), value)
        for value, reads_blocks in ((b"nid1 waiting", False), (b"nid1 blocks waiting", True)):
            expected = SignOfLife(b"nid1", reads_blocks, Waiting(heard_here=True))
            self.assertEqual(read_sign_of_life(value), expected)

    @given(st.binary())
    def test_anything(self, value: bytes) -> None:
        """Whatever stands there is read."""
        read_sign_of_life(value)
        read_sign_of_life(value + b" for \xff blocks waiting")


class WaitingTests(SynchronousTestCase):
    """Who is named."""

    def test_named(self) -> None:
        """Up to so many addresses are named, and the components; no address, no name."""
        addresses = [f"10.0.{n // 256}.{n % 256}" for n in range(MOST_NAMED)]
        waiting = waiting_at([*addresses, None], ["x1c0s0b0n0"], False)
        self.assertEqual(waiting, Waiting(frozenset(addresses), frozenset(["x1c0s0b0n0"])))
        self.assertEqual(waiting_at([], [], True), Waiting(fresh=True))
        self.assertFalse(waiting_at([None], [], False))

    def test_too_many(self) -> None:
        """Too many addresses stand for everybody, too many components for all heard there."""
        addresses = [f"10.0.{n // 256}.{n % 256}" for n in range(MOST_NAMED + 1)]
        self.assertEqual(waiting_at(addresses, [], False), Waiting(everybody=True))
        self.assertEqual(
            waiting_at(["10.0.0.1"], None, False),
            Waiting(frozenset({"10.0.0.1"}), heard_here=True),
        )
