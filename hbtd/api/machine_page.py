"""The handler of the web page that shows the machine, and of the files that the page needs."""

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from importlib.resources import files
from typing import Final
from urllib.parse import quote_from_bytes

from twisted.web.server import Request

from hbtd.api.routes import Role, Route
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply

_TYPES: Final[Mapping[str, str]] = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_PLACE = b"@ui/"
"""What stands in the page for the path of the files, relative to the page."""

_OF_QUERIES: Final = "!$%&'()*+,-./:;=?@_~"
"""What stands in a query as it is."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: nothing from elsewhere, and nothing that a node has sent, runs."""

_HEADERS: Final = (
    ("Cache-Control", "no-cache"),  # kept, but asked for after an upgrade of hbtd
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


class MachinePage:
    """The handlers of `/` and `/ui/`: one static page, which everybody may read.

    The page requests its data from the API, with the credentials of its user.
    """

    def __init__(self) -> None:
        folder = files("hbtd.api").joinpath("ui")
        found = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
        page = found.pop("index.html")
        self._files = {name: _reply(name, body) for name, body in found.items()}
        self._at_root = _reply("index.html", page.replace(_PLACE, b"ui/"))
        self._in_folder = _reply("index.html", page.replace(_PLACE, b""))

    def routes(self) -> Sequence[Route]:
        """Return the routes, which are served without the prefixes of the API."""
        return (
            Route("GET", "/", Role.ANYONE, partial(_answer, self._at_root)),
            Route("GET", "/ui", Role.ANYONE, self.to_folder),
            Route("GET", "/ui/", Role.ANYONE, partial(_answer, self._in_folder)),
            Route("GET", "/ui/<name>", Role.ANYONE, self.file),
        )

    def to_folder(self, request: Request) -> Reply:
        """Redirect `/ui` to `/ui/`: the links in the page are relative to `/ui/`.

        The query of the URL is kept, such as `?wallboard`, which shows the page without controls.
        """
        _, mark, query = request.uri.partition(b"?")
        place = "ui/" + quote_from_bytes(mark + query, safe=_OF_QUERIES)
        return Reply(301, headers=(("Location", place),))

    def file(self, request: Request, name: str) -> Reply:
        """Return a reply with the file `name` of the page; raise `Problem` 404 if there is none."""
        if name not in self._files:
            raise Problem(404, "No such file of the page")
        return _answer(self._files[name], request)


def _reply(name: str, body: bytes) -> Reply:
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    content_type = _TYPES[name.rpartition(".")[2]]
    return Reply(200, body, content_type, (("ETag", tag), *_HEADERS))


def _answer(reply: Reply, request: Request) -> Reply:
    """Return `reply`, or a reply 304 if the client already has the file that `reply` contains."""
    tag = reply.headers[0][1]
    known = (request.getHeader(b"if-none-match") or b"").decode("latin-1")
    if tag in known:
        return Reply(304, headers=reply.headers)
    return reply
