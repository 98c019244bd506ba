"""A server on this host that answers hbtctl as hbtd does, with components that tests make up."""

import json
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from socketserver import ThreadingUnixStreamServer
from ssl import SSLContext
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ClusterShell.NodeSet import NodeSet
from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.main import run
from hbtd.formats.nodesets import natural_key, within
from hbtd.formats.xnames import component_type, normalise

AT = "2026-11-26T18:56:00.000Z"
TOLD = "2026-11-26T18:56:30.000Z"


def component(xname: str, state: str = "healthy", **fields: Any) -> dict[str, Any]:
    """Return a component as `GET /components` has it."""
    return {
        "XName": xname,
        "Type": component_type(xname),
        "State": state,
        "Since": AT,
        "LastHeartbeat": "2026-11-26T18:55:29.812Z",
        "Age": 1.5,
        "Timestamp": "2026-11-26T18:55:29Z",
        "Status": "OK",
        "Source": "10.1.2.3",
        "Hostname": "nid000001",
        "NID": "1",
        "HSM": {"State": "told", "At": TOLD, "Reason": None},
        **fields,
    }


def entry(number: int, xname: str, transition: str = "died", **fields: Any) -> dict[str, Any]:
    """Return an entry of the log."""
    to = {"died": "dead", "warned": "warned"}.get(transition, "healthy")
    return {
        "Number": number,
        "XName": xname,
        "From": "warned",
        "To": to,
        "Transition": transition,
        "At": AT,
        "Why": "silent for 30.2 s",
        "Judge": "host-1",
        **fields,
    }


Reply = tuple[int, dict[str, str], Any]


class StandIn:
    """What the server knows, and what it was asked."""

    def __init__(self) -> None:
        self.changes = 0
        """How often each component has changed its state within the last hour."""
        self.tells_hsm = True
        """Whether HSM is told at all."""
        self.table: dict[str, Any] | None = None
        """What the last comparison of HSM's table has found."""
        self.absent = 0
        """How many nodes are absent."""
        self.maintenance: dict[str, int] | None = None
        """What the summary says of maintenance."""
        self.disruptions: list[dict[str, Any]] = []
        """What the summary says of disrupted failure domains."""
        self.components: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.hindrances: list[dict[str, Any]] = []
        """What has hindered hbtd since any component was heard."""
        self.params = {"Warntime": "10", "Errtime": "30", "Sm_url": "http://hsm"}
        self.thresholds: list[dict[str, Any]] = []
        self.threshold_of: dict[str, str] = {}
        """What the threshold matches that applies to a component."""
        self.ready = True
        self.token = ""
        """The token that every request needs, if it is not empty."""
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        """Method, path, query and body of each request."""
        self.replies: dict[str, Reply] = {}
        """Answers by path that replace the usual ones: status, headers, and JSON or bytes."""
        self.streams: list[Callable[[], bytes]] = []
        """What each next request for events is sent; then the stream ends."""
        self.last_ids: list[str] = []
        """The header `Last-Event-ID` of each request for events."""
        self.hangs_up = False
        """Whether each connection is closed, unannounced, after one answer."""
        self.heartbeats = threading.Semaphore(0)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        """Return the answer to a request."""
        self.asked.append((method, path, query, body))
        if path in self.replies:
            return self.replies[path]
        name = f"{method} {path.split('/')[1]}" + ("/" if path.count("/") > 1 else "")
        handler = {
            "GET components": self._components,
            "GET components/": self._component,
            "GET summary": self._summary,
            "GET tree": self._tree,
            "GET history": self._history,
            "GET params": lambda path, query, body: self.params,
            "PATCH params": self._patch,
            "GET thresholds": lambda path, query, body: self.thresholds,
            "PUT thresholds": self._set_thresholds,
            "GET health": lambda path, query, body: {"KvStore": "HBTD_OK", "HsmStatus": "Ready"},
            "GET internals": lambda path, query, body: {"Version": "0.1.0", "Queues": {"HSM": 0}},
            "POST forget": self._forget,
        }.get(name)
        if name == "GET readiness":
            return (204 if self.ready else 503), {}, b""
        if name == "POST heartbeat":
            self.heartbeats.release()
            return 200, {}, b""
        if name == "DELETE heartbeat/":
            return 204, {"Hbtd-Found": "true"}, b""
        answer = handler(path, query, body) if handler else None
        return (404, {}, problem(404, "No such thing")) if answer is None else (200, {}, answer)

    def _chosen(self, query: dict[str, str]) -> tuple[list[dict[str, Any]], str]:
        names = set(NodeSet(query["names"], resolver=None)) if query.get("names") else None
        known = {c[key]: c["XName"] for c in self.components for key in ("Hostname", "XName")}
        found = self.components
        unknown: set[str] = set()
        if names is not None:
            unknown = {normalise(name) for name in names if name not in known}
            asked = {known[name] for name in names if name in known}
            found = [c for c in found if c["XName"] in asked]
        states = query.get("state", "").replace("ok", "healthy").split(",")
        found = [c for c in found if states == [""] or c["State"] in states]
        found = [c for c in found if c["XName"].startswith(query.get("under", ""))]
        return found, str(NodeSet.fromlist(unknown))

    def _components(self, path: str, query: dict[str, str], body: Any) -> Any:
        found, unknown = self._chosen(query)
        begin, limit = int(query.get("after", 0)), int(query["limit"])
        following = str(begin + limit) if begin + limit < len(found) else None
        page = found[begin : begin + limit]
        return {"Components": page, "Next": following, "Unknown": unknown}

    def _component(self, path: str, query: dict[str, str], body: Any) -> Any:
        for c in self.components:
            if path.split("/")[2] in (c["XName"], c["Hostname"]):
                reasons: dict[str, Any] = {
                    "Text": "no heartbeat for 34.2 s, more than Errtime",
                    "Warntime": 10,
                    "Errtime": 30,
                    "MeanPeriod": 3.0,
                    "Deviation": 0.02,
                    "LongestGap": 3.9,
                    "Delay": None,
                    "Hindrances": self.hindrances,
                    "Changes": self.changes,
                }
                if c["XName"] in self.threshold_of:
                    reasons["Threshold"] = self.threshold_of[c["XName"]]
                transitions = [e for e in reversed(self.log) if e["XName"] == c["XName"]]
                return {**c, "Why": reasons, "Transitions": transitions}
        return None

    def _summary(self, path: str, query: dict[str, str], body: Any) -> Any:
        states = [c["State"] for c in self.components]
        counts = {state: states.count(state) for state in ("healthy", "warned", "dead")}
        silent = [c["XName"] for c in self.components if c["State"] != "healthy"]
        groups = []
        if silent:
            text = f"x1000c7 {len(silent)}/{len(silent)} silent since 18:56:00, HSM told 18:56:30"
            groups = [{"XName": "x1000c7", "Dead": len(silent), "Text": text}]
        return {
            "At": TOLD,
            "Counts": {**counts, "total": len(states)},
            "Groups": groups,
            "Silent": "",
            "HSM": {
                "Told": self.tells_hsm,
                "Ready": True,
                "Waiting": 0,
                "SetAside": 0,
                "Table": self.table,
                "Absent": self.absent,
            },
            "More": 0,
            "Leader": "hbtd-1:28500",
            "Leading": True,
            "Replica": "host-1",
            **({} if self.maintenance is None else {"Maintenance": self.maintenance}),
            **({"Disruptions": self.disruptions} if self.disruptions else {}),
        }

    def _tree(self, path: str, query: dict[str, str], body: Any) -> Any:
        everything, _ = self._chosen({"under": query.get("under", "")})
        silent, _ = self._chosen({"under": query.get("under", ""), "state": "warned,dead"})
        places = {
            match[0]
            for c in silent
            for pattern in (r"x\d+", r"x\d+c\d+", r"x\d+c\d+[rs]\d+")
            if (match := re.match(pattern, c["XName"])) and match[0] != c["XName"]
        }
        found = sorted(places, key=natural_key)
        begin, limit = int(query.get("after", 0)), int(query["limit"])
        following = str(begin + limit) if begin + limit < len(found) else None
        parts = [
            {"XName": x, "Counts": _counts([c for c in everything if within(c["XName"], x)])}
            for x in found[begin : begin + limit]
        ]
        return {"Counts": _counts(everything), "Parts": parts, "Next": following}

    def _history(self, path: str, query: dict[str, str], body: Any) -> Any:
        limit, begin = int(query.get("limit", 1000)), int(query.get("after", 0))
        if "at" in query:
            rows = [{k: c[k] for k in ("XName", "State", "Since")} for c in self.components]
            return {"At": AT, "Components": rows, "Next": None, "Complete": False}
        names = set(NodeSet(query["names"])) if query.get("names") else None
        found = [e for e in self.log if names is None or e["XName"] in names]
        if query.get("order") == "newest":
            found = found[::-1]
        following = str(begin + limit) if begin + limit < len(found) else None
        return {"Entries": found[begin : begin + limit], "Next": following}

    def _patch(self, path: str, query: dict[str, str], body: Any) -> Any:
        self.params = {**self.params, **body}
        return self.params

    def _set_thresholds(self, path: str, query: dict[str, str], body: Any) -> Any:
        self.thresholds = [{**row, "Components": 3} for row in body]
        return self.thresholds

    def _forget(self, path: str, query: dict[str, str], body: Any) -> Any:
        found, unknown = self._chosen({"names": ",".join(body["XNames"])})
        self.components = [c for c in self.components if c not in found]
        names = str(NodeSet.fromlist([c["XName"] for c in found]))
        return {"Forgotten": len(found), "XNames": names, "Unknown": unknown, "TooSoon": ""}


def _counts(components: list[dict[str, Any]]) -> dict[str, int]:
    states = [c["State"] for c in components]
    counts = {state: states.count(state) for state in ("healthy", "warned", "dead")}
    return {**counts, "total": len(states)}


def problem(status: int, detail: str) -> dict[str, Any]:
    """Return the document of a refused request."""
    return {"type": "about:blank", "title": "Invalid Request", "detail": detail, "status": status}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Serve one request."""
        super().handle_one_request()

    def _serve(self) -> None:
        stand_in: StandIn = self.server.stand_in  # type: ignore[attr-defined]
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        path = unquote(parts.path.removeprefix("/hmi/v1"))
        if stand_in.token and self.headers.get("Authorization") != f"Bearer {stand_in.token}":
            self._send(401, {}, problem(401, "This takes an operator"))
        elif path == "/events" and path not in stand_in.replies:
            self._stream(stand_in)
        else:
            self._send(*stand_in.answer(self.command, path, dict(parse_qsl(parts.query)), body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _send(self, status: int, headers: dict[str, str], content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection |= self.server.stand_in.hangs_up  # type: ignore[attr-defined]

    def _stream(self, stand_in: StandIn) -> None:
        stand_in.last_ids.append(self.headers.get("Last-Event-ID", ""))
        if not stand_in.streams:
            self._send(503, {"Retry-After": "1"}, problem(503, "There are too many readers"))
            return
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(stand_in.streams.pop(0)())
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, stand_in: StandIn, context: SSLContext | None) -> None:
        self.stand_in = stand_in
        super().__init__(("127.0.0.1", 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""


class _UnixServer(ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, stand_in: StandIn, path: str) -> None:
        self.stand_in = stand_in
        super().__init__(path, _UnixHandler)


class _UnixHandler(_Handler):
    disable_nagle_algorithm = False  # TCP's


def serve(
    test: SynchronousTestCase, context: SSLContext | None = None, path: str | None = None
) -> tuple[StandIn, str]:
    """Serve a stand-in until the test ends, on a Unix socket if there is a path; return its URL."""
    stand_in = StandIn()
    server = _Server(stand_in, context) if path is None else _UnixServer(stand_in, path)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(10)

    test.addCleanup(stop)
    if path is not None:
        return stand_in, f"unix:{path}"
    scheme = "http" if context is None else "https"
    return stand_in, f"{scheme}://localhost:{server.socket.getsockname()[1]}"


def free_port() -> int:
    """Return a port of this host where nobody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Typed(StringIO):
    """What a person types, or sees: a stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


class CommandTestCase(SynchronousTestCase):
    """Runs commands against a stand-in."""

    def setUp(self) -> None:
        """Serve it."""
        self.hbtd, self.url = serve(self)

    def hbtctl(self, *words: str, typed: str | None = None, **environ: str) -> int:
        """Run a command; what it printed is in `self.out` and `self.err` afterwards.

        `typed` is what somebody types at the terminal, which there is only then.
        """
        stream = StringIO if typed is None else Typed
        out, err = StringIO(), stream()
        stdin = stream(typed or "")
        try:
            return run(words, {"HBTCTL_URL": self.url, **environ}, stdin, out, err)
        finally:
            self.out, self.err = out.getvalue(), err.getvalue()
