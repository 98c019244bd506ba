"""HTTP of the API outside of the handlers: paths, methods, redirects, limits and errors."""

import tracemalloc
from itertools import product

import orjson
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from hbtd.api.routes import Role, Route
from tests.support.http_memory import (
    BEAT,
    HEARTBEAT,
    PATHS,
    PREFIXES,
    PROBLEM,
    ROUTES,
    XNAME,
    APITestCase,
    Connection,
    chunked,
    encode_request,
    head,
    loopback_request,
    make_site,
    parse_responses,
)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")

KIB64 = 64 * 1024
MIB4 = 4 * 1024 * 1024


class RoutingTests(APITestCase):
    """The routing of paths and methods."""

    def test_unknown_path(self):
        """An unknown path is answered with 404, with the path as the instance."""
        for path in (
            *("/v1", "/v1/", "/hmi", "/hmi/v1", "/hmi/v1/", "/hmi/v2/params", "/v2/params"),
            *("/params", "/heartbeat", "/openapi.json", "/liveness", "/v1/nope", "/V1/params"),
            *("/v1/Params", "/v1/params/x", "/v1/hbstate", "/v1/hbstate/", "/v1/hbstate/a/b"),
            *("/v1/heartbeat/a/b", "/v1/./params", "/v1/nope/../params", "/v1/%C3%A9"),
            *("/hmi/v1/nope", "/hmi/v1/metrics.json", "/v1/params;x"),
        ):
            for method in ("GET", "POST", "OPTIONS", "BREW"):
                response = self.request(method, f"{path}?x=1")
                self.assert_problem(response, 404, "No such path", path)

    def test_table(self):
        """The table of routes that the tests go through has all that the service serves."""
        served: dict[str, set[str]] = {}
        for route in self.service.routes.api:
            path = route.path.replace("<xname>", XNAME).replace("<name>", XNAME)
            path = path.replace("<id>", f"away-{XNAME}")
            also = {"HEAD"} if route.method == "GET" else set()
            served.setdefault(path, set()).update({route.method} | also)
        self.assertEqual({path: sorted(methods) for path, methods in served.items()}, ROUTES)

    def test_slashes_in_a_row(self):
        """A path with several slashes in a row is unknown, whatever the method."""
        for path, method in product(("/v1//params", "//v1/params", "/hmi//v1/params"), METHODS):
            self.assertEqual(self.request(method, path).status, 404, path)

    def test_wrong_method(self):
        """A wrong method is answered with 405, the right methods, and a problem document."""
        for path, method in product((*PATHS, "/metrics"), METHODS):
            route = path.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1])
            if method in ROUTES[route]:
                continue
            response = self.request(method, path)
            self.assertEqual((response.status, response.content_type), (405, PROBLEM))
            self.assertEqual(response.headers["allow"], ", ".join(ROUTES[route]))
            if method == "HEAD":
                continue
            shown = " and ".join(each for each in ROUTES[route] if each != "HEAD")
            plural = "s" if " " in shown else ""
            # Of these routes, the name is left out.
            names = "/heartbeat", "/components", "/maintenance", "/guard"
            named = next((each for each in names if each in route), route)
            instance = "/hmi/v1" + named
            self.assert_problem(
                response,
                405,
                f"Only {shown} operation{plural} supported",
                instance if path != "/metrics" else path,
            )

    def test_methods_are_upper_case(self):
        """Methods must be in upper case."""
        before = self.state()
        for method, path in (("get", "/v1/params"), ("Post", "/v1/heartbeat")):
            self.assertEqual(self.request(method, path, HEARTBEAT).status, 405)
        self.assertEqual(self.state(), before)

    def test_head(self):
        """HEAD is answered like GET, without the body."""
        for path in PATHS:
            route = path.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1])
            if "GET" in ROUTES[route]:
                get, answer = (self.request(method, path) for method in ("GET", "HEAD"))
                self.assertEqual((answer.status, answer.body), (get.status, b""))
                self.assertEqual(set(answer.headers), set(get.headers))
                self.assertEqual(answer.content_type, get.content_type)
                if route not in ("/metrics", "/internals"):  # these have times and counts
                    length = get.headers.get("content-length")
                    self.assertEqual(answer.headers.get("content-length"), length)

    def test_head_of_what_is_refused(self):
        """HEAD of a path that is refused before the router sees it adds no line to the log."""
        with capturedLogs() as events:
            for path in ("//metrics", "/%6detrics", "/v1/%70arams", "/v1/a%2fb", "/v1/params%00"):
                get, answer = (self.request(method, path) for method in ("GET", "HEAD"))
                self.assertEqual((answer.status, answer.body), (get.status, b""), path)
                for name in ("content-length", "content-type"):
                    self.assertEqual(answer.headers[name], get.headers[name], path)
        self.assertEqual([eventAsText(event) for event in events], [])

    def test_options_of_the_server(self):
        """`OPTIONS *` is answered like that of the page at the root, which can only be read."""
        self.assert_problem(self.request("OPTIONS", "*"), 405, "Only GET operation supported", "/")

    def test_instance_of_a_name(self):
        """The instance of a problem has the name in normal form, but none for heartbeats."""
        response = self.request("POST", "/v1/hbstate/%20X0001")
        self.assert_problem(response, 405, "Only GET operation supported", "/hmi/v1/hbstate/x1")
        response = self.request("DELETE", "/v1/heartbeat/nobody")
        self.assert_problem(response, 400, "Invalid Component Name", "/hmi/v1/heartbeat")

    def test_no_page_of_twisted(self):
        """The Server header of all answers is `hbtd`."""
        for path in (*PATHS, "/", "/nope", "/v1/params/"):
            self.assertEqual(self.request("GET", path).headers["server"], "hbtd")


class RedirectTests(APITestCase):
    """Paths with a slash at the end."""

    def test_slash_at_the_end(self):
        """A route with slashes at its end is redirected to the same path without them."""
        before = self.state()
        for path, method in product((*PATHS, "/metrics"), ("GET", "HEAD", "POST", "BREW")):
            for query in ("", "?", "?a=b&c=%2F/", "?//x/"):
                response = self.request(method, f"{path}/{query}", HEARTBEAT)
                self.assertEqual((response.status, response.body), (301, b""))
                self.assertEqual(response.headers["location"], path + query)
                self.assertEqual(response.headers["content-length"], "0")
        self.assertEqual(self.state(), before)

    def test_encoded_names(self):
        """A name in a redirected path keeps its encoding."""
        for name in ("%20x1", "%C3%A9", "a%0d%0aSet-Cookie:x", "%3f", "%25"):
            response = self.request("GET", f"/v1/hbstate/{name}/")
            self.assertEqual(response.status, 301)
            self.assertEqual(response.headers["location"], f"/v1/hbstate/{name}")

    def test_unknown_paths(self):
        """An unknown path with a slash at its end is not redirected."""
        for path in ("//evil.example/", "//evil.example/v1/params/", "/nope/", "/v1/nope/", "///"):
            response = self.request("GET", path)
            self.assert_problem(response, 404, "No such path", path)

    def test_never_to_another_host(self):
        """No redirect leads to another host, even if the path begins with several slashes."""
        for path in ("//v1/params/", "//metrics/", "///v1/params/", "//hmi/v1/health/", "/\\v1/"):
            location = self.request("GET", path).headers.get("location", "/")
            self.assertRegex(location, r"\A/(?![/\\])", path)

    def test_never_to_itself(self):
        """No redirect leads to the same path again, even with an encoded slash."""
        for path in ("/v1/params%2f", "/v1/params%2F", "/v1/hbstate/a%2f", "/metrics%2f"):
            self.assertNotEqual(self.request("GET", path).headers.get("location"), path)


class LimitTests(APITestCase):
    """The limits on the size of bodies."""

    def padded(self, size):
        """Return a heartbeat of exactly `size` bytes."""
        body = orjson.dumps({**HEARTBEAT, "Hostname": ""})
        return orjson.dumps({**HEARTBEAT, "Hostname": "h" * (size - len(body))})

    def send(self, method, path, body):
        """Send a body whole and in chunks, each followed by a request; yield the answers."""
        whole = encode_request(method, path, body)
        pieces = head(f"{method} {path}", "Transfer-Encoding: chunked") + chunked(body, 60_000)
        for request in (whole, pieces):
            connection = self.connect()
            connection.send(
                *(request[i : i + KIB64] for i in range(0, len(request), KIB64)),
                head("GET /v1/liveness"),
            )
            answer, alive = parse_responses(connection.received())
            self.assertEqual(alive.status, 204)
            yield answer

    def assert_too_large(self, method, path, body, limit, instance):
        """Check that a body is refused as too large, and connection and state are unharmed."""
        before = self.state()
        for answer in self.send(method, path, body):
            detail = f"Request body is larger than {limit} bytes"
            self.assert_problem(answer, 413, detail, instance)
        self.assertEqual(self.state(), before)

    def test_heartbeats(self):
        """A heartbeat may have 64 KiB and not a byte more, valid or not."""
        for path in ("/hmi/v1/heartbeat", f"/v1/heartbeat/{XNAME}"):
            for answer in self.send("POST", path, self.padded(KIB64)):
                self.assertEqual(answer.status, 200)
            for body in (self.padded(KIB64 + 1), b"x" * (KIB64 + 1)):
                self.assert_too_large("POST", path, body, KIB64, "/hmi/v1/heartbeat")

    def test_others(self):
        """Any other body may have 4 MiB and not a byte more."""
        body = orjson.dumps({"XNames": [], "": "x" * (MIB4 - 19)})
        self.assertEqual(len(body), MIB4)
        for answer in self.send("POST", "/v1/hbstates", body):
            self.assertEqual((answer.status, answer.body), (200, b'{"HBStates":[]}'))
        for answer in self.send("PATCH", "/v1/params", body):
            self.assertEqual(answer.status, 200)
        for method, route in (("POST", "hbstates"), ("PATCH", "params"), ("GET", "health")):
            path = f"/v1/{route}"
            self.assert_too_large(method, path, body + b" ", MIB4, f"/hmi{path}")

    def test_size_before_all_else(self):
        """More than 4 MiB are refused before path, method and contents are checked."""
        body = b"x" * (MIB4 + 1)
        self.assert_too_large("POST", "/nope", body, MIB4, "/nope")
        self.assert_too_large("PUT", "/v1/params", body, MIB4, "/hmi/v1/params")
        self.assert_too_large("POST", "/v1/heartbeat", body, MIB4, "/hmi/v1/heartbeat")

    def test_path_and_method_before_a_heartbeat_s_size(self):
        """The size of a heartbeat is checked after path and method."""
        body = b"x" * (KIB64 + 1)
        for method, path, status in (("GET", "/v1/heartbeat", 405), ("POST", "/v1/heart", 404)):
            for answer in self.send(method, path, body):
                self.assertEqual(answer.status, status)

    def test_endless(self):
        """A client that never stops sending is cut off, and takes little memory."""
        piece = b"x" * KIB64
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
        before = self.state()
        for fields, part in (
            ("Content-Length: 1000000000000", piece),
            ("Content-Length: " + "9" * 100, piece),
            ("Transfer-Encoding: chunked", chunk),
        ):
            connection = self.connect()
            connection.send(head("POST /v1/hbstates", fields))
            tracemalloc.start()
            connection.send(*[part] * 1000)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertTrue(connection.closed, fields)
            self.assertLess(peak, 3 * MIB4)
        self.assertEqual(self.state(), before)


class SiteTests(SynchronousTestCase):
    """A site with one handler, which fails."""

    def setUp(self):
        """Serve a handler that fails."""

        def fail(request):
            raise ZeroDivisionError("a secret")

        routes = [Route(method, "/fail", Role.ANYONE, fail) for method in ("GET", "POST")]
        self.site = make_site(routes, Clock())

    def test_unexpected_error(self):
        """A failing handler is answered with 500 without details, and logged with them."""
        for prefix, method in product(PREFIXES, ("GET", "POST")):
            response = loopback_request(self.site, method, f"{prefix}/fail")
            self.assertEqual((response.status, response.content_type), (500, PROBLEM))
            self.assertEqual(
                response.body,
                b'{"type":"about:blank","title":"Internal Server Error",'
                b'"detail":"Unexpected error; hbtd\'s log says more",'
                b'"instance":"/hmi/v1/fail","status":500}',
            )
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_open_requests(self):
        """The site knows its open requests until they are answered or cut off."""
        connection = Connection(self.site)
        connection.send(BEAT[:-1])
        self.assertEqual(len(self.site.open_requests), 1)
        connection.send(BEAT[-1:])
        self.assertEqual(self.site.open_requests, set())
        connection.send(BEAT[:-1])
        connection.hang_up()
        self.assertEqual(self.site.open_requests, set())

    def test_closing(self):
        """A closing site closes each connection after its next answer."""
        connection = Connection(self.site)
        connection.send(BEAT[:-1])
        self.site.closing = True
        connection.send(BEAT[-1:])
        (answer,) = parse_responses(connection.received())
        self.assertEqual((answer.status, answer.headers["connection"]), (404, "close"))
        self.assertTrue(connection.closed)
