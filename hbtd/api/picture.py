"""The handler of `/picture`: the names and states of all components in one answer."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from hbtd.api.queries import ascii_reply, hold, read_parameters
from hbtd.api.routes import Role, Route
from hbtd.formats.times import format_time
from hbtd.queries.machine import Machine, Silence, Turn
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest

_SIZE_OF_EACH = 64
"""The bytes that a picture takes for each component while it is made, roughly."""

_LETTERS = bytes.maketrans(b"\0\1\2\3", b"hwdd")
"""What stands for a component that is healthy, warned about, dead."""


class Picture:
    """The handler of `/picture`: the names and states of all components in one answer."""

    def __init__(
        self,
        machine: Machine,
        count: Callable[[], int],
        last_number: Callable[[], int],
        wall: Callable[[], float],
        marks: Callable[[Sequence[str], Turn], Awaitable[str | None]],
    ) -> None:
        """Make the handler.

        `count` returns how many components are tracked, `last_number` returns the number of the
        latest entry in the log of transitions, and `wall` returns the current Unix time in seconds.
        `marks` is `MaintenanceFacts.marks`.
        """
        self._machine = machine
        self._count = count
        self._last_number = last_number
        self._wall = wall
        self._marks = marks

    def routes(self) -> Sequence[Route]:
        """Return the route of this handler."""
        return (Route("GET", "/picture", Role.READER, self.picture),)

    def picture(self, request: Request) -> Coroutine[Deferred[Any], Any, Reply]:
        """Return the names of all tracked components in natural order, and the state of each.

        The states are letters in the order of the names; see `states`. Raise `Problem` 400 if there
        are query parameters, and 503 if there is not enough memory for the answer.
        """
        assert isinstance(request, LimitedRequest)
        read_parameters(request, ())
        return self.make(request)

    async def make(self, request: LimitedRequest) -> Reply:
        """Return the reply of `picture`: the names and states of all tracked components.

        The reply is made in portions, between which other requests have their turns.
        """
        hold(request, _SIZE_OF_EACH * self._count())
        # Read before the states: events from here on lead to states that are at least as new.
        number, at = self._last_number(), self._wall()
        silence = await self._machine.silence(request.turn)
        await request.turn()
        marks = await self._marks(silence.layout.order, request.turn)
        return ascii_reply(
            {
                "At": format_time(at),
                "Number": number,
                "Names": "\n".join(silence.layout.order),
                "States": self.states(silence),
                **({} if marks is None else {"Maintenance": marks}),
            }
        )

    @staticmethod
    def states(silence: Silence) -> str:
        """Return the state of each component as a letter: `h` healthy, `w` warned, `d` dead.

        The letters are in one text, in the order of `silence.layout.order`.
        """
        # As numbers of which each byte is a flag: a hundred thousand are added in a moment.
        flags = int.from_bytes(silence.warned, "big") + 2 * int.from_bytes(silence.dead, "big")
        return flags.to_bytes(len(silence.dead), "big").translate(_LETTERS).decode("ascii")
