"""The model of replicas, etcd and HSM has its properties, and loses them without hbtd's rules."""

import re
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.support.spin import MODEL, Search, search, story, why_not

REASON = why_not()


@skipIf(REASON is not None, REASON or "")
class ModelTestCase(SynchronousTestCase):
    """A test case that searches the model."""

    timeout = 1800

    def search(self, *defined: str, optimise: str = "-O0", cycles: bool = False) -> Search:
        """Search the model with some macros defined; print how many states it has."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        found = search(self.folder, defined, optimise, cycles=cycles)
        print(f"{' '.join(defined) or 'as it is'}: {found.states:,} states, {found.seconds:.1f} s")
        return found

    def assert_holds(self, *defined: str, cycles: bool = False) -> None:
        """Assert that all properties hold in all states, and that every statement is reached."""
        found = self.search(*defined, optimise="-O2", cycles=cycles)
        if found.violated is not None:
            self.fail("\n".join([found.violated, *story(self.folder, defined)[-80:]]))
        self.assertTrue(found.complete, found.said)
        self.assertGreater(found.states, 1_000_000)
        self.assertEqual(found.unreached, [])

    def assert_violates(self, check: str, assertion: str, *defined: str) -> None:
        """Assert that `check` alone is violated, in a statement that begins with `assertion`."""
        found = self.search("CHECK_ONE", check, *defined)
        self.assertEqual((found.violated or "")[: len(assertion)], assertion)


class HoldingTests(ModelTestCase):
    """What hbtd's rules achieve."""

    def test_as_it_is(self) -> None:
        """All properties hold, whoever is suspended, whenever, and for however long."""
        self.assert_holds()

    def test_mended(self) -> None:
        """If doubts are handed over, HSM learns the truth even if its table can't be read.

        And once nothing fails any more, nothing goes on for ever.
        """
        self.assert_holds("NO_COMPARISON", "MENDED", cycles=True)


class BreakingTests(ModelTestCase):
    """Each rule is needed: without it the property that it is for does not hold."""

    def test_no_fence(self) -> None:
        """Without the fence, a replica that has lost the lock tells HSM what it was about to."""
        self.assert_violates("CHECK_ONE_TELLER", "assertion violated (owner==r)", "NO_FENCE")

    def test_no_fence_order(self) -> None:
        """Without the fence, HSM is sent an older word after a newer one."""
        self.assert_violates(
            "CHECK_SENT_IN_ORDER", "assertion violated (newest_sent<=connecting[r])", "NO_FENCE"
        )

    def test_lease(self) -> None:
        """A lease that counts from etcd's answer, not from the question, makes two tell HSM."""
        self.assert_violates(
            "CHECK_ONE_TELLER", "assertion violated (owner==r)", "LEASE_FROM_ANSWER"
        )

    def test_unfenced_commits(self) -> None:
        """Without the lock's key in each commit, a judgement is made of a state that is gone."""
        self.assert_violates(
            "CHECK_ONE_HISTORY", "assertion violated ( ((phase[r]", "UNFENCED_COMMITS"
        )

    def test_marked_before_answer(self) -> None:
        """What is marked as delivered before HSM's answer may never have got there."""
        self.assert_violates(
            "CHECK_MARKED_MEANS_TOLD", "assertion violated told", "MARKED_BEFORE_ANSWER"
        )

    def test_unsettled(self) -> None:
        """A comparison that asks nobody what is settled tells HSM what is not committed."""
        self.assert_violates(
            "CHECK_COMMITTED_FIRST", "assertion violated (connecting[r]<=newest)", "UNSETTLED"
        )

    def test_not_repeated(self) -> None:
        """Unless it is repeated, an update that was given up may undo what HSM was told since."""
        self.assert_violates(
            "CHECK_TRUE_AT_REST",
            "assertion violated (table==",
            "NO_COMPARISON",
            "MENDED",
            "NOT_REPEATED",
        )

    def test_endless_doubt(self) -> None:
        """A doubt that does not end has HSM told the same for ever."""
        found = self.search("CHECK_ONE", "NO_COMPARISON", "ENDLESS_DOUBT", cycles=True)
        self.assertEqual(found.violated, "non-progress cycle")

    def test_no_comparison(self) -> None:
        """Doubts are not handed over: after a change of the leader the comparison is needed."""
        self.assert_violates("CHECK_TRUE_AT_REST", "assertion violated (table==", "NO_COMPARISON")
        steps = story(self.folder, ["CHECK_ONE", "CHECK_TRUE_AT_REST", "NO_COMPARISON"])
        self.assertIn("lead(r)", "\n".join(steps))


class DocumentTests(SynchronousTestCase):
    """The page beside the model."""

    def test_macros(self) -> None:
        """README.md explains each property, and each macro that breaks or changes a rule."""
        macros = set(re.findall(r"#if(?:n?def) (\w+)", MODEL.read_text())) - {"CHECK_ONE"}
        named = set(re.findall(r"`([A-Z_]+)`", (MODEL.parent / "README.md").read_text()))
        self.assertEqual({each.removeprefix("CHECK_") for each in macros} - named, set())

    def test_files(self) -> None:
        """Files that the model and its page name exist."""
        text = MODEL.read_text() + (MODEL.parent / "README.md").read_text()
        for name in set(re.findall(r"\bhbtd/[\w/]+\.py", text)):
            self.assertTrue((MODEL.parent.parent.parent / name).exists(), name)
