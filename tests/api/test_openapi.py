"""The OpenAPI document: it is valid, complete, and agrees with the service's answers."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.service import HbtdService
from hbtd.config.params import PARAMETERS, Params
from tests.support.http_memory import HEARTBEAT, PREFIXES, XNAME, APITestCase
from tests.support.issuer import Issuer, bearer

DOCUMENT = orjson.loads(files("hbtd.api").joinpath("openapi.json").read_bytes())

OTHER = "x0c0s0b0n0"

VERBS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def resolved(part):
    """Return a part of the document, its references resolved."""
    while "$ref" in part:
        pointer, part = part["$ref"], DOCUMENT
        for step in pointer.removeprefix("#/").split("/"):
            part = part[step]
    return part


def conforms(schema, value):
    """Return the faults of a value according to a schema of the document."""
    validator = OAS31Validator({"components": DOCUMENT["components"], **schema})
    return [error.message for error in validator.iter_errors(value)]


def operation(method, path):
    """Return the operation of a request, given its path without prefix."""
    template = re.sub(r"^/(heartbeat|hbstate)/[^/]+", r"/\1/{xname}", path.partition("?")[0])
    template = re.sub("^/maintenance/.+", "/maintenance/{id}", template)
    template = re.sub("^/components/.+", "/components/{name}", template)
    return DOCUMENT["paths"][template][method.lower()]


def examples(content):
    """Return the examples of a body, by their names."""
    if "examples" in content:
        return {name: each["value"] for name, each in content["examples"].items()}
    return {"example": content["example"]} if "example" in content else {}


class DocumentTests(SynchronousTestCase):
    """The document by itself, and compared with the code."""

    def test_valid(self):
        """The document is valid OpenAPI 3.1."""
        self.assertEqual(list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()), [])

    def test_servers(self):
        """The document's servers are the prefixes."""
        self.assertEqual([server["url"] for server in DOCUMENT["servers"]], list(PREFIXES))

    def test_routes(self):
        """The document has all routes and methods that the code has, and no others."""
        service = HbtdService(Params(kv_url="mem:"), MemoryReactorClock())
        registered = {
            (prefix + route.path, route.method)
            for prefix in PREFIXES
            for route in service.routes.api
        }
        documented = {
            (prefix + re.sub(r"\{(\w+)\}", r"<\1>", path), verb.upper())
            for prefix in PREFIXES
            for path, item in DOCUMENT["paths"].items()
            for verb in VERBS
            if verb in item
        }
        self.assertEqual(registered, documented)

    def test_parameters(self):
        """The document has the parameters that the code has, in its order."""
        names = [parameter.wire for parameter in PARAMETERS]
        schemas = DOCUMENT["components"]["schemas"]
        self.assertEqual(list(schemas["Params"]["properties"]), names)
        self.assertEqual(schemas["Params"]["required"], names)
        self.assertEqual(list(schemas["ParamsPatch"]["properties"]), names)
        self.assertEqual(conforms(schemas["Params"], Params().rendered()), [])
        for verb in ("get", "patch"):
            answer = DOCUMENT["paths"]["/params"][verb]["responses"]["200"]
            self.assertEqual(list(answer["content"]["application/json"]["example"]), names)

    def test_changeable_parameters(self):
        """The document and the code agree on the parameters that are fixed at start."""
        patch = DOCUMENT["components"]["schemas"]["ParamsPatch"]["properties"]
        fixed = {name for name, schema in patch.items() if "$ref" in schema}
        self.assertEqual(fixed, {p.wire for p in PARAMETERS if p.fixed})

    def test_examples(self):
        """Every example conforms to its schema."""
        for path, item in DOCUMENT["paths"].items():
            for verb in set(VERBS) & set(item):
                bodies = [item[verb].get("requestBody", {})]
                bodies += map(resolved, item[verb]["responses"].values())
                for body in bodies:
                    for content in body.get("content", {}).values():
                        for name, value in examples(content).items():
                            self.assertEqual(conforms(content["schema"], value), [], (path, name))

    def test_every_route_has_its_errors(self):
        """Every operation documents 405, and 413 if it has a body."""
        for path, item in DOCUMENT["paths"].items():
            for verb in set(VERBS) & set(item):
                responses = item[verb]["responses"]
                self.assertIn("405", responses, path)
                self.assertEqual("requestBody" in item[verb], "413" in responses, path)


class AnswerTests(APITestCase):
    """The document compared with the service's answers."""

    def check(self, method, path, body=b""):
        """Make a request, check that its answer is as documented, and return it."""
        response = self.request(method, PREFIXES[0] + path, body)
        documented = resolved(operation(method, path)["responses"][str(response.status)])
        content = documented.get("content")
        if content is None:
            self.assertEqual((response.body, response.content_type), (b"", None))
            return response
        content_type = (response.content_type or "").partition(";")[0]
        self.assertIn(content_type, content)
        is_json = content_type.endswith("json")
        value = response.json() if is_json else response.body.decode()
        self.assertEqual(conforms(content[content_type]["schema"], value), [])
        return response

    def test_successes(self):
        """Answers to valid requests are as documented."""
        for method, path, body, status in (
            ("POST", "/heartbeat", HEARTBEAT, 200),
            ("POST", f"/heartbeat/{XNAME}", HEARTBEAT, 200),
            ("POST", "/hbstates", {"XNames": [XNAME, "x"]}, 200),
            ("POST", "/hbstates", {"XNames": []}, 200),
            ("GET", f"/hbstate/{XNAME}", b"", 200),
            ("GET", "/components", b"", 200),
            ("GET", "/components?state=dead&limit=1&names=nid1", b"", 200),
            ("GET", "/components/nid000083", b"", 200),
            ("GET", "/history", b"", 200),
            ("GET", "/history?at=-1s", b"", 200),
            ("GET", "/whatif", b"", 200),
            ("GET", "/whatif?warntime=1&errtime=2&since=-1h", b"", 200),
            ("GET", "/components/nid000900", b"", 404),
            ("POST", "/maintenance", {"XNames": [XNAME, "nid9"], "For": 60}, 201),
            ("GET", "/maintenance", b"", 200),
            ("POST", f"/heartbeat/{XNAME}/away", {"For": 60}, 204),
            ("GET", f"/maintenance/away-{XNAME}", b"", 200),
            ("PATCH", f"/maintenance/away-{XNAME}", {"For": 50, "By": "me"}, 200),
            ("GET", f"/components/{XNAME}", b"", 200),
            ("GET", "/summary", b"", 200),
            ("POST", f"/heartbeat/{XNAME}/away", {"For": 60}, 429),
            ("DELETE", f"/maintenance/away-{XNAME}", b"", 200),
            ("GET", f"/maintenance/away-{XNAME}", b"", 404),
            ("GET", "/picture", b"", 200),
            ("GET", "/tree?under=x1000&limit=1", b"", 200),
            ("POST", "/forget", {"XNames": ["x1000c7s[0-7]"]}, 200),
            ("GET", "/params", b"", 200),
            ("GET", f"/params?component={XNAME}", b"", 200),
            ("PATCH", "/params", {"Warntime": "11"}, 200),
            ("PUT", "/thresholds", [{"Match": "Node", "Errtime": 60}], 200),
            ("GET", "/thresholds", b"", 200),
            ("GET", f"/components/{XNAME}", b"", 200),
            ("GET", "/liveness", b"", 204),
            ("GET", "/readiness", b"", 204),
            ("GET", "/health", b"", 200),
            ("GET", "/metrics", b"", 200),
            ("GET", "/internals", b"", 200),
            ("GET", "/openapi.json", b"", 200),
            ("DELETE", f"/heartbeat/{XNAME}", b"", 204),
        ):
            self.assertEqual(self.check(method, path, body).status, status, path)

    def test_too_large(self):
        """Answers to bodies that are too large are as documented."""
        for method, path, size in (
            ("POST", "/heartbeat", 2**16),
            ("POST", f"/heartbeat/{XNAME}", 2**16),
            ("POST", "/hbstates", 2**22),
            ("POST", "/forget", 2**22),
            ("POST", "/maintenance", 2**22),
            ("POST", f"/heartbeat/{XNAME}/away", 2**16),
            ("PATCH", "/params", 2**22),
            ("PUT", "/thresholds", 2**22),
        ):
            self.assertEqual(self.check(method, path, b"x" * (size + 1)).status, 413)

    def test_crowded(self):
        """Answers for which there is no memory are as documented."""
        self.begin(max_body_bytes=8192)
        for number in range(70_000):
            self.service.tracker.beat(f"x{number}", 0.0, "t", "OK")
        for path in (
            "/components?names=no",
            "/components/no",
            "/tree",
            "/picture",
            "/whatif",
            "/metrics",
        ):
            self.assertEqual(self.check("GET", path).status, 503, path)

    def test_refusals(self):
        """Answers to requests with missing or insufficient credentials are as documented."""
        beat = ("POST", "/hmi/v1/heartbeat", HEARTBEAT)
        patch = ("PATCH", "/hmi/v1/params", {"Warntime": "11"})
        shown = DOCUMENT["components"]["responses"]
        jwks, tokens = Path(self.mktemp()).resolve(), Path(self.mktemp()).resolve()
        Issuer().publish(jwks)
        tokens.write_text("a-token-of-operators")
        tokens.chmod(0o600)
        neighbour = bearer(Issuer().token("x1000c0s0b0n1"))
        operator = bearer("a-token-of-operators")
        for name, (method, path, body), headers in (
            ("Unauthenticated", beat, {}),
            ("NotOwn", beat, neighbour),
            ("NoRoom", beat, bearer(Issuer().token(XNAME))),
            ("OperatorUnknown", patch, {}),
            ("NotOperator", patch, neighbour),
            ("NotYours", ("DELETE", f"/hmi/v1/heartbeat/{XNAME}", b""), neighbour),
            ("NotYoursToSay", ("POST", f"/hmi/v1/heartbeat/{XNAME}/away", {"For": 5}), neighbour),
            ("AwayLately", ("POST", f"/hmi/v1/heartbeat/{OTHER}/away", {"For": 5}), operator),
            ("ForgottenLately", ("DELETE", f"/hmi/v1/heartbeat/{OTHER}", b""), operator),
        ):
            self.begin(
                node_access=f"jwt:{jwks}",
                operator_access=f"token:{tokens}",
                max_components=1,
            )
            self.service.tracker.beat(OTHER, 0, "t", "up")
            self.service.monitor.forget_on_request(OTHER)
            self.service.tracker.beat(OTHER, 0, "t", "up")
            if name == "AwayLately":
                self.request(method, path, body, headers)
            answer = self.request(method, path, body, headers)
            documented = shown[name]
            content = documented["content"]["application/problem+json"]
            self.assertEqual(answer.json(), content["example"], name)
            for header, described in documented.get("headers", {}).items():
                self.assertEqual(answer.headers[header.lower()], described["example"])

    def test_not_ready(self):
        """The answer of a service that is not ready is as documented."""
        self.service.store.close()
        self.reactor.advance(5)
        self.assertEqual(self.check("GET", "/readiness").status, 503)

    def test_examples_of_requests(self):
        """The documented examples of requests are accepted."""
        for method, path, shown in (
            ("POST", "/heartbeat", "/heartbeat"),
            ("POST", f"/heartbeat/{XNAME}", "/heartbeat/{xname}"),
            ("POST", "/hbstates", "/hbstates"),
            ("POST", "/maintenance", "/maintenance"),
            ("POST", f"/heartbeat/{XNAME}/away", "/heartbeat/{xname}/away"),
            ("PATCH", f"/maintenance/away-{XNAME}", "/maintenance/{id}"),
            ("POST", "/forget", "/forget"),
            ("PATCH", "/params", "/params"),
            ("PUT", "/thresholds", "/thresholds"),
        ):
            content = DOCUMENT["paths"][shown][method.lower()]["requestBody"]["content"]
            for body in examples(content["application/json"]).values():
                self.assertEqual(self.check(method, path, body).status // 100, 2, path)
        # What waits for Kafka would be waited for.
        self.request("PATCH", "/v1/params", {"Use_telemetry": "0"})

    def test_examples_of_problems(self):
        """The documented examples of problems are the service's answers, word by word."""
        beat, named = "/heartbeat", f"/heartbeat/{XNAME}"
        tried: tuple[tuple[str, str, Any, str], ...] = (
            ("POST", beat, b"[", "notJson"),
            ("POST", beat, {**HEARTBEAT, "NID": 83}, "wrongType"),
            ("POST", beat, {**HEARTBEAT, "Timestamp": ""}, "missing"),
            ("POST", beat, {**HEARTBEAT, "Component": "nid1"}, "badComponent"),
            ("POST", beat, {**HEARTBEAT, "NID": "x"}, "badNid"),
            ("POST", named, b"[]", "notJson"),
            ("POST", named, {"Status": 1, "Timestamp": "t"}, "wrongType"),
            ("POST", named, {"Timestamp": "t"}, "missing"),
            ("POST", "/heartbeat/nobody", HEARTBEAT, "badComponent"),
            ("DELETE", "/heartbeat/nobody", b"", "badComponent"),
            ("POST", "/hbstates", b"", "unusable"),
            ("GET", "/hbstate/%ff", b"", "notUtf8"),
            ("GET", "/internals?x=1", b"", "unknownParameter"),
            ("GET", "/components?stat=dead", b"", "unknownParameter"),
            ("GET", "/components?names=x[0-9999]c[0-7]s[0-63]", b"", "tooMany"),
            ("GET", "/components?names=x1000c[0-7", b"", "brokenNodeset"),
            ("GET", "/components/x0?limit=1", b"", "unknownParameter"),
            ("GET", "/events?after=x", b"", "badNumber"),
            ("GET", "/history?since=x", b"", "badTime"),
            ("GET", "/history?after=x", b"", "badCursor"),
            ("GET", "/summary?under=x1000", b"", "unknownParameter"),
            ("GET", "/picture?limit=1", b"", "unknownParameter"),
            ("GET", "/tree?under=x1000_", b"", "badXName"),
            ("GET", "/tree?state=dead", b"", "unknownParameter"),
            ("POST", "/forget", b"[]", "notNames"),
            ("POST", "/forget", {"XNames": ["x1000c[7-0]"]}, "brokenNodeset"),
            ("GET", "/maintenance?state=x", b"", "unknownParameter"),
            ("POST", "/maintenance", b"[]", "notObject"),
            ("POST", "/maintenance", {"XNames": "x0", "For": 5}, "notNames"),
            ("POST", "/maintenance", {"XNames": ["x0"]}, "noEnd"),
            ("POST", "/maintenance", {"XNames": ["x0"], "For": 604801}, "tooLate"),
            ("POST", "/maintenance", {"XNames": [], "For": 5}, "nobody"),
            ("POST", "/maintenance", {"XNames": ["x1000c[7-0]"], "For": 5}, "brokenNodeset"),
            ("POST", f"/heartbeat/{XNAME}/away", b"", "notObject"),
            ("POST", "/heartbeat/nobody/away", {"For": 5}, "badComponent"),
            ("POST", f"/heartbeat/{XNAME}/away", {}, "noSeconds"),
            ("GET", f"/maintenance/away-{XNAME}?x=1", b"", "unknownParameter"),
            ("PATCH", f"/maintenance/away-{XNAME}", b"[]", "notObject"),
            ("PATCH", f"/maintenance/away-{XNAME}", {}, "nothing"),
            ("GET", "/reconcile?dry=1", b"", "unknownParameter"),
            ("GET", "/whatif?warntime=0", b"", "noLimit"),
            ("GET", "/whatif?since=x", b"", "badTime"),
            ("POST", "/reconcile", b"[]", "notDryRun"),
            ("GET", "/params?component=nid1", b"", "badComponent"),
            ("GET", "/thresholds?component=x1", b"", "unknownParameter"),
            ("PUT", "/thresholds", b"{", "notRows"),
            ("PUT", "/thresholds", [{"Match": "Node", "Errtime": 0}], "badTime"),
            ("PUT", "/thresholds", [{"Match": "NodeBCM"}], "badMatch"),
            ("GET", "/guard?all=1", b"", "unknownParameter"),
            ("POST", "/guard/release", b"[]", "notDomain"),
            ("PATCH", "/params", b"null", "notJson"),
            ("PATCH", "/params", {"Warntime": "abc"}, "illegalValue"),
            ("PATCH", "/params", {"Port": "1"}, "fixed"),
            ("PATCH", "/params", {"Errtime": 1}, "wrongType"),
            ("PATCH", "/params", {"Use_telemetry": "x", "Telemetry_host": "x"}, "several"),
        )
        shown = {
            (item[verb]["operationId"], name)
            for item in DOCUMENT["paths"].values()
            for verb in set(VERBS) & set(item)
            for name in examples(
                item[verb]["responses"]
                .get("400", {})
                .get("content", {})
                .get("application/problem+json", {})
            )
        }
        seen = set()
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.request("POST", f"/v1/heartbeat/{XNAME}/away", {"For": 5})
        for method, path, body, name in tried:
            described = operation(method, path)
            content = described["responses"]["400"]["content"]["application/problem+json"]
            answer = self.check(method, path, body)
            self.assertEqual(answer.json(), examples(content)[name], (path, name))
            seen.add((described["operationId"], name))
        self.assertEqual(seen, shown)

    def test_shared_examples(self):
        """The documented examples of shared problems are the service's answers, too."""
        responses = DOCUMENT["components"]["responses"]
        for name, method, path, size in (
            ("NotFound", "GET", "/hmi/v1/hbstat", 0),
            ("MethodNotAllowed", "GET", "/hmi/v1/heartbeat", 0),
            ("HeartbeatTooLarge", "POST", "/hmi/v1/heartbeat", 2**16 + 1),
            ("BodyTooLarge", "POST", "/hmi/v1/hbstates", 2**22 + 1),
        ):
            answer = self.request(method, path, b"x" * size)
            content = responses[name]["content"]["application/problem+json"]
            self.assertEqual(answer.json(), content["example"], name)
            for header, described in responses[name].get("headers", {}).items():
                self.assertEqual(answer.headers[header.lower()], described["example"])
