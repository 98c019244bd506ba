"""What the monitor needs of a store."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Interface

from hbtd.tracker.transitions import Judgement


class StoreUnusable(Exception):
    """The store can't do what it was asked for now; the message says why. Asking again may help."""


class IStore(Interface):
    """Keeps judgements from the moment they are made until nobody needs them any more.

    A judgement is committed before it is sent and marked as delivered once HSM has acknowledged
    it, so that whoever comes after a crash can send what is missing. Of a component only its
    latest judgement counts. Those of `warned` and `died` stay for as long as they are true; those
    of `started` and `restarted` have served their purpose once they are delivered.

    All stores pass the same tests, `tests/store_contract.py`.
    """

    def open() -> Deferred[None]:
        """Make the store ready for use. Fails with `StoreUnusable`."""

    def close() -> Deferred[None]:
        """Let go of the store; what was committed stays."""

    def commit(judgements: Sequence[Judgement]) -> Deferred[None]:
        """Keep judgements, all or none, as not delivered, each instead of its component's last.

        Fires once they are safe; fails with `StoreUnusable` if they are not.
        """

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
