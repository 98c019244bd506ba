"""The log lines about changes that somebody asked for: who, from where, what, and the outcome."""

from twisted.logger import capturedLogs, eventAsText

from tests.support.access_memory import (
    CREDENTIALS,
    NEIGHBOUR,
    REMOTE,
    Credential,
)
from tests.support.change_lines import EXPIRED, NAMED, ChangeTestCase
from tests.support.http_memory import HEARTBEAT, XNAME
from tests.support.issuer import bearer


class ChangeTests(ChangeTestCase):
    """Every change is one line."""

    def test_who(self) -> None:
        """A change of parameters is one line with who, from where, what was and what is."""
        self.begin()
        for number, (credential, who) in enumerate(
            (
                (CREDENTIALS["on this host"], "loopback from 127.0.0.1"),
                (CREDENTIALS["on this host, by a socket"], "loopback from a Unix socket"),
                (CREDENTIALS["operator's token"], "the token in line 1 from 192.0.2.1"),
                (Credential(headers=bearer(NAMED)), "token 'alice' from 192.0.2.1"),
                (CREDENTIALS["operator's certificate"], "certificate 'ops' from 192.0.2.1"),
                (
                    CREDENTIALS["on this host"]._replace(headers=bearer(NAMED)),
                    "token 'alice' from 127.0.0.1",
                ),
            ),
            11,
        ):
            change = {"Warntime": str(number), "Errtime": str(number + 50)}
            answer, lines = self.lines(credential, "PATCH", "/v1/params", change)
            self.assertEqual(answer.status, 200)
            before = number + 49 if number > 11 else 30
            self.assertEqual(
                lines,
                [
                    f"Change by {who}: PATCH /v1/params: Warntime is '{number}',"
                    f" was '{number - 1}'; Errtime is '{number + 50}', was '{before}'."
                ],
            )

    def test_anybody(self) -> None:
        """Where everybody is an operator, the line says that nothing is known of the caller."""
        self.begin(operator_access="any")
        for credential, who in (
            (CREDENTIALS["nothing"], "an unknown caller from 192.0.2.1"),
            (
                CREDENTIALS["through a proxy here"],
                "an unknown caller, through a proxy or web page from 127.0.0.1",
            ),
        ):
            _, lines = self.lines(credential, "PATCH", "/v1/params", {"Debug": "0"})
            self.assertEqual(lines, [f"Change by {who}: PATCH /v1/params: nothing changed."])

    def test_refused_values(self) -> None:
        """A refused change of an operator is a line with the reason."""
        self.begin()
        answer, lines = self.lines(
            CREDENTIALS["on this host"], "PATCH", "/v1/params", {"Warntime": "0", "Port": "1"}
        )
        self.assertEqual(answer.status, 400)
        self.assertEqual(
            lines,
            [
                "Change by loopback from 127.0.0.1: PATCH /v1/params: refused with 400: Parameter"
                " 'warntime' with illegal value '0'; Parameter 'port' can't be changed in PATCH"
                " operation."
            ],
        )

    def test_wrong_type(self) -> None:
        """The line of a refusal ends in one full stop, also where the detail has one."""
        self.begin()
        _, lines = self.lines(CREDENTIALS["on this host"], "PATCH", "/v1/params", {"Warntime": 5})
        (line,) = lines
        self.assertTrue(line.endswith("400: Invalid data type in Warntime field."), line)

    def test_long_values(self) -> None:
        """However long a value is, the line is not, whether the change is made or refused."""
        self.begin()
        host = "x" * 60_000
        for change in ({"Warntime": host}, {"Telemetry_host": f"{host}:9092:topic"}):
            _, lines = self.lines(CREDENTIALS["on this host"], "PATCH", "/v1/params", change)
            self.assertEqual(len(lines), 1)
            self.assertLess(len(lines[0]), 1000)

    def test_refused_callers(self) -> None:
        """A caller that may not change anything is in the line as far as it is known."""
        for name, credential, who, detail in (
            ("nobody", CREDENTIALS["nothing"], "an unknown caller", "An operator's credentials"),
            (
                "bob",
                Credential(headers=bearer(EXPIRED)),
                "expired token 'bob'",
                "Other credentials are needed: the token has expired",
            ),
            (
                "node",
                CREDENTIALS["own certificate"],
                f"certificate '{XNAME}'",
                "Only operators may do this",
            ),
            (
                "alice",
                CREDENTIALS["someone else's JWT"],
                "JWT 'alice'",
                "Only operators may do this",
            ),
        ):
            self.begin()
            answer, lines = self.lines(credential, "PATCH", "/v1/params", {"Debug": "1"})
            self.assertIn(answer.status, (401, 403), name)
            (line,) = lines
            self.assertIn(f"Refused a change from 192.0.2.1: {detail}", line)
            self.assertIn(f". Asked by {who} from 192.0.2.1: PATCH /v1/params", line)
            self.assertTrue(answer.json()["detail"] in line)
            self.assertEqual(self.service.params.current.debug, 0)

    def test_other_refusals_do_not_hide_it(self) -> None:
        """The first refused change is a line, also behind other refusals of the same address."""
        self.begin()
        nothing = CREDENTIALS["nothing"]
        for _ in range(3):
            self.lines(nothing, "POST", "/v1/heartbeat", HEARTBEAT)
        lines = [self.lines(nothing, "PATCH", "/v1/params", {"Debug": "1"})[1] for _ in range(3)]
        self.assertEqual([len(each) for each in lines], [1, 0, 0])
        with capturedLogs() as events:
            self.reactor.pump([5.0] * 14)
        said = "\n".join(eventAsText(event) for event in events)
        self.assertIn("Refused 2 more changes from 192.0.2.1: 2 unauthenticated", said)
        self.assertIn("Refused 2 more requests or connections from 192.0.2.1", said)

    def test_forget(self) -> None:
        """A component that is forgotten is one line with its state before."""
        self.begin()
        path = f"/v1/heartbeat/{XNAME}"
        for key, who in (
            ("operator's token", "the token in line 1"),
            ("own certificate", f"certificate '{XNAME}'"),
            ("own JWT", f"JWT 'spiffe://site.example/compute/{XNAME}/workload/heartbeat'"),
        ):
            self.begin()
            self.beat()
            answer, lines = self.lines(CREDENTIALS[key], "DELETE", path)
            self.assertEqual(answer.status, 204, key)
            (line,) = lines
            begin = f"Change by {who} from 192.0.2.1: DELETE {path}: no longer tracked, was healthy"
            self.assertEqual(line[: len(begin)], begin)
            self.assertRegex(line, r"healthy, last heard \d+\.\d s before\.$")

    def test_forget_nothing(self) -> None:
        """An operator who has nothing forgotten is in the log; a node can't fill it like that."""
        self.begin()
        path = f"/v1/heartbeat/{XNAME}"
        _, lines = self.lines(CREDENTIALS["operator's token"], "DELETE", path)
        self.assertEqual(len(lines), 1)
        self.assertIn("nothing changed, was not tracked.", lines[0])
        for key in ("own certificate", "own JWT"):
            answer, lines = self.lines(CREDENTIALS[key], "DELETE", path)
            self.assertEqual((answer.status, lines), (204, []))
            answer, lines = self.lines(CREDENTIALS[key], "DELETE", "/v1/heartbeat/nonsense")
            self.assertEqual((answer.status, lines), (400, []))

    def test_forget_refused(self) -> None:
        """A component that may not be forgotten, or not yet, is a line."""
        self.begin()
        path = f"/v1/heartbeat/{NEIGHBOUR}"
        _, (line,) = self.lines(CREDENTIALS["own certificate"], "DELETE", path)
        self.assertIn("Only operators may have another component forgotten. Asked by", line)
        self.assertIn(f"certificate '{XNAME}' from 192.0.2.1: DELETE {path}", line)
        here, path = CREDENTIALS["on this host"], f"/v1/heartbeat/{XNAME}"
        for _ in range(2):
            self.beat()
            answer, lines = self.lines(here, "DELETE", path)
        self.assertEqual(answer.status, 429)
        (line,) = lines
        self.assertIn("forgotten once in Errtime seconds only. Asked by loopback from 127", line)

    def test_reading(self) -> None:
        """What only operators may read is no change, whether it is refused or not."""
        self.begin()
        for path in ("/v1/internals", "/v1/internals?x=1"):
            answer, lines = self.lines(CREDENTIALS["operator's token"], "GET", path)
            self.assertEqual((answer.status, lines), (400 if "?" in path else 200, []))
        answer, (line,) = self.lines(CREDENTIALS["nothing"], "GET", "/v1/internals")
        self.assertEqual(answer.status, 401)
        self.assertTrue(line.startswith("Refused a request or connection from 192.0.2.1: "), line)

    def test_bug(self) -> None:
        """A change that fails unexpectedly is a line, too."""
        self.begin()

        def fail(changes: object) -> None:
            raise LookupError("a bug")

        self.patch(self.service.params, "patch", fail)
        answer, lines = self.lines(CREDENTIALS["on this host"], "PATCH", "/v1/params", {})
        self.assertEqual(answer.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)
        self.assertEqual(
            lines,
            [
                "Change by loopback from 127.0.0.1: PATCH /v1/params: failed because of a bug in"
                " hbtd; the next line says more."
            ],
        )

    def test_reload(self) -> None:
        """Reading files again is one line with what came of each."""
        self.begin()
        (self.folder / "jwks.json").write_text("spoilt")
        with capturedLogs() as events:
            self.service.reload("SIGHUP")
        lines = [eventAsText(e, includeTimestamp=False, includeSystem=False) for e in events]
        (line,) = [line for line in lines if line.startswith("Change")]
        begin = "Change by SIGHUP: certificates, keys and tokens were read again: "
        self.assertEqual(line[: len(begin)], begin)
        path = self.folder / "tokens"
        tokens = (
            f"The operators' tokens in --operator_access=token:{path} accepted, unchanged since"
        )
        self.assertIn(f"{tokens} the last look (3 of them)", line)
        self.assertFalse([each for each in lines if "were read again." in each], "said twice")
        self.assertRegex(line, r"; The keys [^;]* refused: [^;]*jwks.json can't be used")
        self.assertNotIn("bug", line)


class ExpiryTests(ChangeTestCase):
    """Tokens with an expiry."""

    def test_expires(self) -> None:
        """A token is valid until it expires, and then its owner is told."""
        self.begin()
        clock = [0.0]
        self.service.access.gate._now = lambda: clock[0]
        credential = Credential(REMOTE, bearer(NAMED))
        last = 32472144000.0  # 2999-01-01
        for now, status in ((0.0, 200), (last - 1, 200), (last, 401), (last + 1, 401)):
            clock[0] = now
            answer, _ = self.lines(credential, "PATCH", "/v1/params", {})
            self.assertEqual(answer.status, status, now)
        for path in ("/v1/params", f"/v1/heartbeat/{XNAME}"):
            method = "PATCH" if path.endswith("params") else "DELETE"
            answer, _ = self.lines(credential, method, path)
            self.assertEqual(
                answer.json()["detail"], "Other credentials are needed: the token has expired"
            )
