"""What connections to Kafka are made with, from files that change."""

import ssl
from pathlib import Path
from typing import Any

from kafka.errors import KafkaError
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.net.own_secrets import SecretUnusable
from hbtd.net.tls import TLSUnusable
from hbtd.telemetry.security import KafkaSecurity, securely
from tests.support.certificates import make_identity, write_identity

ADDRESS = TelemetryAddress("kafka", 9092, "topic")


class SecurityTests(SynchronousTestCase):
    """The settings for kafka-python."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.cert, self.key = write_identity(make_identity("hbtd"), self.folder)
        self.login = self.folder / "login"
        self.login.write_text("hbtd:first")
        self.login.chmod(0o600)
        self.changes = 0

    def make(self, **params: Any) -> KafkaSecurity:
        """Make the settings, and count their changes."""
        security = KafkaSecurity(Params(kv_url="mem:", **params))
        security.on_change(self.count)
        return security

    def count(self) -> None:
        """Count a change."""
        self.changes += 1

    def check_files(self, security: KafkaSecurity) -> None:
        """Read changed files again."""
        for files in security.credentials.watched:
            files.reload_if_changed()

    def test_nothing(self) -> None:
        """Without options for it, connections are made as kafka-python makes them."""
        self.assertEqual(self.make().settings(), {})

    def test_protocols(self) -> None:
        """TLS and a login are used each without the other, or both together."""
        for tls, login, protocol in (
            (True, "", "SSL"),
            (False, str(self.login), "SASL_PLAINTEXT"),
            (True, str(self.login), "SASL_SSL"),
        ):
            settings = self.make(telemetry_tls=tls, telemetry_login=login).settings()
            self.assertEqual(settings["security_protocol"], protocol)
            self.assertEqual(settings["ssl_context"] is not None, tls)
            self.assertEqual("sasl_mechanism" in settings, bool(login))

    def test_login(self) -> None:
        """User and password are those in the file, for the mechanism that is asked for."""
        for value, mechanism in (("plain", "PLAIN"), ("scram-sha-256", "SCRAM-SHA-256")):
            security = self.make(telemetry_login=str(self.login), telemetry_sasl=value)
            settings = security.settings()
            self.assertEqual(settings["sasl_mechanism"], mechanism)
            self.assertEqual(settings["sasl_plain_username"], "hbtd")
            self.assertEqual(settings["sasl_plain_password"], "first")

    def test_trust(self) -> None:
        """Servers are verified, by name too, unless that is not wanted; old TLS is refused."""
        bundle = self.make(telemetry_tls=True, telemetry_ca=str(self.cert)).settings()
        context = bundle["ssl_context"]
        self.assertEqual(len(context.get_ca_certs()), 1)
        self.assertTrue(context.check_hostname)
        self.assertEqual(context.verify_mode, ssl.CERT_REQUIRED)
        self.assertEqual(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        context = self.make(telemetry_tls=True, telemetry_ca="insecure").settings()["ssl_context"]
        self.assertEqual(context.verify_mode, ssl.CERT_NONE)

    def test_changed(self) -> None:
        """A changed password, certificate or bundle is used from then on, and is made known."""
        security = self.make(
            telemetry_tls=True,
            telemetry_ca=str(self.cert),
            telemetry_cert=str(self.cert),
            telemetry_key=str(self.key),
            telemetry_login=str(self.login),
        )
        before = security.settings()["ssl_context"]
        self.login.write_text("hbtd:second")
        self.check_files(security)
        self.assertEqual(security.settings()["sasl_plain_password"], "second")
        self.assertIs(security.settings()["ssl_context"], before)
        self.assertEqual(self.changes, 1)
        write_identity(make_identity("other"), self.folder)
        self.check_files(security)
        (authority,) = security.settings()["ssl_context"].get_ca_certs()
        self.assertIn("other", str(authority["subject"]))
        self.assertGreater(self.changes, 1)

    def test_unusable(self) -> None:
        """Files that can't be used at start are errors; later the old content stays in force."""
        security = self.make(telemetry_login=str(self.login))
        self.login.write_text("nothing of use")
        self.check_files(security)
        self.assertEqual(security.settings()["sasl_plain_password"], "first")
        self.assertRaises(SecretUnusable, self.make, telemetry_login=str(self.login))
        self.assertRaises(TLSUnusable, self.make, telemetry_tls=True, telemetry_ca="/nowhere")

    def test_refused(self) -> None:
        """When a connection fails, the file is looked at again, and the next one has its login."""
        security = self.make(telemetry_login=str(self.login))
        used: list[str] = []

        def connect(address: TelemetryAddress, **settings: Any) -> Any:
            used.append(settings["sasl_plain_password"])
            raise KafkaError("refused")

        connecting = securely(connect, security, security.look_again)
        self.assertRaises(KafkaError, connecting, ADDRESS)
        self.login.write_text("hbtd:second")
        self.assertRaises(KafkaError, connecting, ADDRESS)
        self.assertRaises(KafkaError, connecting, ADDRESS)
        self.assertEqual(used, ["first", "first", "second"])
