"""The part of the original hbtd's REST API that a shadow run needs, for its stand-in."""

from http import HTTPStatus
from typing import Any

import orjson
from klein import Klein
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource

from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from tests.support.original_hbtd import OriginalHbtd


class OriginalAPI:
    """Heartbeats, and who is heartbeating."""

    app = Klein()

    def __init__(self, hbtd: OriginalHbtd) -> None:
        self._hbtd = hbtd

    def resource(self) -> IResource:
        """Return the API as a resource."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/hmi/v1/heartbeat", methods=["POST"])
    async def heartbeat(self, request: IRequest) -> bytes:
        """Take a heartbeat; say 500 if etcd fails."""
        fields = orjson.loads(_body(request))
        try:
            await self._hbtd.beat(fields["Component"], fields["Timestamp"], fields["Status"])
        except (EtcdUnavailable, EtcdRefused):
            request.setResponseCode(HTTPStatus.INTERNAL_SERVER_ERROR)
        return b""

    @app.route("/hmi/v1/hbstates", methods=["POST"])
    async def states(self, request: IRequest) -> bytes:
        """Say who is heartbeating; names are echoed as they were sent."""
        names = orjson.loads(_body(request))["XNames"]
        states = [
            {"XName": name, "Heartbeating": await self._hbtd.heartbeating(name)} for name in names
        ]
        return orjson.dumps({"HBStates": states})


def _body(request: IRequest) -> bytes:
    content: Any = request.content
    data: bytes = content.read()
    return data
