"""What the monitor needs of a store."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement


class StoreUnusable(Exception):
    """The store can't do what it was asked for now; the message says why. Asking again may help."""


class NotLeading(StoreUnusable):
    """Only the replica that leads may do this, and that is not us, or no longer."""


class IStore(Interface):
    """Keeps what must outlive a crash: the records of the living, and judgements.

    Judgements are kept from the moment they are made until nobody needs them any more.

    A judgement is committed before it is sent and marked as delivered once HSM has acknowledged
    it, so that whoever comes after a crash can send what is missing. Of a component only its
    latest judgement counts. Those of `warned` and `died` stay for as long as they are true; those
    of `started` and `restarted` have served their purpose once they are delivered.

    All stores pass the same tests, `tests/support/store_contract.py`.
    """

    durable = Attribute("Whether what it keeps outlives the process (`bool`).")
    shared = Attribute("Whether other replicas use it, too, of which one judges (`bool`).")
    gather = Attribute(
        "Seconds for which records are to be gathered between checkpoints (`float`)."
    )

    def open() -> Deferred[None]:
        """Make the store ready for use. Fails with `StoreUnusable`."""

    def close() -> Deferred[None]:
        """Let go of the store; what was committed stays."""

    def commit(judgements: Sequence[Judgement], records: Sequence[Record] = ()) -> Deferred[bool]:
        """Keep judgements as not delivered, each instead of its component's last, and records.

        Of each component all or nothing. The record of a component that has died goes; those given
        are kept instead of what was kept of their components before. Fires once all is safe, with
        whether these judgements now stand and are to be told; if not, another replica was left to
        make its own. Fails with `StoreUnusable` if that could not be done, or not all of it.
        """

    def checkpoint(records: Sequence[Record]) -> Deferred[None]:
        """Keep records, each instead of what was kept of its component before."""

    def records() -> Deferred[list[Record]]:
        """Get all records, with their ages, as the store reckons them.

        These are those of now if it goes by the wall clock, else those when it was last written to.
        """

    def clear_records() -> Deferred[None]:
        """Drop all records; judgements stay."""

    def delivered(judgements: Sequence[Judgement]) -> Deferred[None]:
        """Note that HSM has acknowledged these.

        One that is no longer its component's latest changes nothing.
        """

    def forget(xname: str) -> Deferred[None]:
        """Drop whatever is kept of a component."""

    def undelivered() -> Deferred[list[Judgement]]:
        """Get the judgements that HSM has yet to acknowledge, in the order of their commit."""

    def standing() -> Deferred[list[Judgement]]:
        """Get all judgements that are kept, in the order of their commit."""

    def usable() -> bool:
        """Tell whether the store can be used now."""

    def health() -> str:
        """Tell people in a sentence how the store is."""
