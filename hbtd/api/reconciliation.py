"""The handlers of `/reconcile`, for comparisons of HSM's table with hbtd's records."""

from collections.abc import Callable, Sequence

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from hbtd.api.queries import ascii_reply, read_parameters
from hbtd.api.routes import Role, Route
from hbtd.hsm.reconciler import ReconcileImpossible, Reconciler
from hbtd.queries.reconciliation import describe
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply, json_reply
from hbtd.server.site import LimitedRequest


class Reconciliation:
    """The handlers of `/reconcile`, for comparisons of HSM's table with hbtd's records.

    One handler begins a comparison; the other shows the result of the last comparison.
    """

    _log = Logger()

    def __init__(self, reconciler: Reconciler, leader: Callable[[], str | None]) -> None:
        """Make the handlers.

        `leader` returns the name of the replica that leads, or `None` if the name is not known.
        """
        self._reconciler = reconciler
        self._leader = leader

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("GET", "/reconcile", Role.READER, self.show),
            Route("POST", "/reconcile", Role.OPERATOR, self.begin),
        )

    async def show(self, request: LimitedRequest) -> Reply:
        """Return the result of the last comparison, and the state of the current comparison.

        Raise `Problem` 400 if there are query parameters.
        """
        read_parameters(request, ())
        return ascii_reply(await describe(self._reconciler, request.turn))

    def begin(self, request: Request) -> Reply:
        """Begin a comparison; return 202 with its number at once, without waiting for its result.

        The body may be empty or a JSON object; if its `DryRun` is true, HSM is told nothing. Raise
        `Problem` 400 for any other body, 503 if another replica leads, and 409 if an earlier
        request is still waiting for its comparison to begin.
        """
        dry_run = _dry_run(request)
        reconciler = self._reconciler
        if not reconciler.leading:
            leader = self._leader()
            where = "ask the leader" if leader is None else f"ask the leader, {leader}"
            raise Problem(
                503, f"This replica does not lead, and only the leader tells HSM; {where}"
            )
        if reconciler.requested:
            raise Problem(409, "A comparison was requested already, and is about to begin")
        number = reconciler.begun + 1
        reconciler.request(dry_run=dry_run).addErrback(self._failed)
        change = f"HSM's table is compared (number {number})" + (", nothing is told" * dry_run)
        return json_reply({"Number": number}, 202)._replace(change=change)

    def _failed(self, failure: Failure) -> None:
        # Why it failed is in the log already, and in what GET returns.
        if failure.check(ReconcileImpossible) is None:
            self._log.failure(
                "The requested comparison of HSM's table failed because of a bug in hbtd.",
                failure,
            )


def _dry_run(request: Request) -> bool:
    assert request.content is not None
    try:
        empty = not request.content.read(1)
        request.content.seek(0)
        body = {} if empty else read_json(request)
    except ValueError:
        body = None
    dry_run = body.get("DryRun", False) if isinstance(body, dict) else None
    if not isinstance(dry_run, bool):
        raise Problem(400, 'The body must be empty, or a JSON object such as {"DryRun":true}')
    return dry_run
