"""Names that people use: xnames, NIDs and host names."""

from twisted.internet.defer import succeed
from twisted.trial.unittest import TestCase

from hbtd.queries.names import nid_of, resolve
from hbtd.tracker.tracker import Tracker

A, B, C = "x1000c0s0b0n0", "x1000c0s0b0n1", "x1000c0s0b0n2"


class ResolveTests(TestCase):
    """Names among three components."""

    def setUp(self) -> None:
        """Let three components beat."""
        self.tracker = Tracker()
        self.turns = 0
        self.reserved: list[int] = []
        self.beat(A, "nid000001", "1")
        self.beat(B, "Login.example", "0x10")
        self.beat(C, "nid000003", "3")

    def beat(self, xname: str, hostname: str = "", nid: str = "", at: float = 0.0) -> None:
        """Let a component beat."""
        self.tracker.beat(xname, at, "t", "OK", None, True, hostname, nid)

    async def turn(self) -> None:
        """Count that others have had their turn."""
        self.turns += 1
        await succeed(None)

    def reserve(self, count: int) -> None:
        """Note that memory is reserved for a search."""
        self.reserved.append(count)

    async def assertResolved(self, names: list[str], found: list[str], unknown: list[str]) -> None:
        """Check what names stand for: those that are not `unknown` stand for `found`, in order."""
        resolved, not_resolved = await resolve(self.tracker, names, self.turn, self.reserve)
        self.assertEqual(not_resolved, unknown)
        self.assertEqual([resolved[n] for n in names if n not in unknown], [[x] for x in found])

    async def test_xnames(self) -> None:
        """Xnames in any spelling stand for themselves, without a look at all components."""
        await self.assertResolved([A, " X1000C00S0b0n1"], [A, B], [])
        self.assertEqual((self.turns, self.reserved), (0, []))

    async def test_nids(self) -> None:
        """NIDs stand for the components that sent them, whatever the spelling of either."""
        await self.assertResolved(["1", "nid1", "NID0000016", "16"], [A, A, B, B], [])

    async def test_hostnames(self) -> None:
        """Host names are compared regardless of case; what is a NID as well stands for both."""
        await self.assertResolved(["LOGIN.example", "nid000003"], [B, C], [])
        self.beat(B, "nid000003", "16")
        self.beat(C, "other", "3")
        found, _ = await resolve(self.tracker, ["nid000003", "nid3"], self.turn, self.reserve)
        self.assertEqual(found, {"nid000003": [B, C], "nid3": [C]})

    async def test_unknown(self) -> None:
        """Names that stand for nothing are returned; an xname need not be tracked."""
        names = ["4", "nobody", "x9c0s0b0n0", "", "nid", "-1"]
        await self.assertResolved(names, ["x9c0s0b0n0"], ["4", "nobody", "", "nid", "-1"])

    async def test_without_names(self) -> None:
        """A component that has sent neither has none, not even the empty one."""
        self.beat("x1000c0s0b0n3")
        await self.assertResolved(["", " "], [], ["", " "])

    async def test_shared(self) -> None:
        """What several components have sent stands for all of them, whether they live or not."""
        self.beat(B, "nid000001", "1", at=5.0)
        self.tracker.apply_death(A)
        found, unknown = await resolve(self.tracker, ["nid000001", "1"], self.turn, self.reserve)
        self.assertEqual(
            {name: set(each) for name, each in found.items()}, {"nid000001": {A, B}, "1": {A, B}}
        )
        self.assertEqual(unknown, [])

    async def assertAmbiguous(self, names: list[str], ambiguous: list[str]) -> None:
        """Check which of some names are ambiguous."""
        found, _ = await resolve(self.tracker, names, self.turn, self.reserve)
        self.assertEqual([name for name in found if len(found[name]) > 1], ambiguous)

    async def test_ambiguous(self) -> None:
        """A name is ambiguous if several have sent it: both as host name, as NID, or either."""
        names = ["nid000001", "1", "nid000003", "3", A]
        await self.assertAmbiguous(names, [])
        self.beat(B, "Nid000001", "16")
        await self.assertAmbiguous(names, ["nid000001"])
        self.beat(B, "other", "0x1")
        await self.assertAmbiguous(names, ["nid000001", "1"])
        self.beat(B, "3", "16")
        await self.assertAmbiguous(names, ["3"])

    async def test_borrowed_place(self) -> None:
        """Who calls itself a place in a cabinet is not found there, whether somebody is or not."""
        self.beat(A, "x1000c0s0b0n9", "1")
        self.beat(B, C, "16")
        await self.assertResolved(["x1000c0s0b0n9", C], ["x1000c0s0b0n9", C], [])
        self.beat(B, "sms01", "16")
        await self.assertResolved(["sms01"], [B], [])

    async def test_reserved(self) -> None:
        """Memory is reserved for each search; without it, nothing is searched."""
        await self.assertResolved(["nid000003"], [C], [])
        self.assertEqual(self.reserved, [24])

        def refuse(count: int) -> None:
            raise MemoryError

        with self.assertRaises(MemoryError):
            await resolve(self.tracker, ["nid000003"], self.turn, refuse)
        self.assertEqual(self.turns, 1)

    async def test_dead(self) -> None:
        """Dead components keep their names; forgotten ones don't."""
        self.tracker.apply_death(C)
        await self.assertResolved(["nid000003"], [C], [])
        self.tracker.forget(C)
        await self.assertResolved(["nid000003"], [], ["nid000003"])

    async def test_in_turns(self) -> None:
        """Others have their turns while all components are looked at, also to leave."""
        for number in range(5000):
            self.beat(f"x1c0s{number}b0n0", f"h{number}", str(100 + number))

        async def turn() -> None:
            self.turns += 1
            self.tracker.forget("x1c0s4999b0n0")

        found, unknown = await resolve(self.tracker, ["h4998", "h4999"], turn, self.reserve)
        self.assertEqual((found, unknown), ({"h4998": ["x1c0s4998b0n0"]}, ["h4999"]))
        self.assertGreaterEqual(self.turns, 2)


class NidTests(TestCase):
    """The forms of a NID."""

    def test_forms(self) -> None:
        """A NID is a decimal number, with or without `nid`, and nothing else."""
        for name, nid in (("7", 7), ("nid007", 7), (" NID7 ", 7), ("0", 0)):
            self.assertEqual(nid_of(name), nid, name)
        for name in ("", "nid", "nid-1", "nid1a", "n1", "٣", "1" * 20, "nid1.example"):
            self.assertIsNone(nid_of(name), name)
