"""The HTTP servers of a world that are not hbtd's."""

from typing import Any

from twisted.web.http import Request
from twisted.web.resource import IResource
from twisted.web.server import Site


class WorldSite(Site):
    """A server of JSON that writes no access log, and looks for no forms in what it is sent.

    Nobody reads the one or sends the other, and they took a tenth of the time of a world.
    """

    noisy = False

    def __init__(self, resource: IResource, reactor: Any) -> None:
        """Serve a resource in a simulated process."""
        super().__init__(resource, reactor=reactor, parsePOSTFormSubmission=False)

    def log(self, request: Request) -> None:
        """Write nothing."""
