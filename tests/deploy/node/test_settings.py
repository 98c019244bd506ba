"""Where hbtd-agent finds who it is and where hbtd is."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.agent import PATH, agent
from tests.support.processes import CHECKOUT

SHASTA = (
    "console=ttyS0,115200n8 bad_page=panic ip=dhcp quiet "
    "htburl=https://api-gw-service-nmn.local/apis/hbtd/hmi/v1/heartbeat "
    'xname=x3000c0s19b1n0 nid=1 root=live:"s3://a b" bss_referral_token=0-1'
)
URL = "https://hbtd.example"


class SettingsTests(SynchronousTestCase):
    """Options, environment, kernel command line, files."""

    def find(self, given=None, environ=None, files=None, host="login1"):
        """Return the settings that are found on a host."""
        files = files or {}
        return agent.find_settings(
            given or {}, environ or {}, lambda path: files.get(path, ""), lambda: host
        )

    def test_order(self):
        """An option is before a variable, that before the kernel, that before a file and the name.

        Each is found in normal form.
        """
        places: list[dict[str, Any]] = [
            {"files": {}, "host": "x1000c0s0b0n05.local"},
            {"files": {"/etc/cray/xname": "X1000c0s0b0n4"}},
            {"files": {"/proc/cmdline": "a xname=x01000c0s0b0n3 b"}},
            {"files": {"/proc/cmdline": "xname=x1c0s0b0n0 hbtd-agent.xname=x1000c0s0b0n2"}},
            {"environ": {"HBTD_AGENT_XNAME": " x1000c0s0b0n1 "}},
            {"given": {"xname": "x1000c0s0b0n00"}},
        ]
        together: dict[str, Any] = {"given": {"url": URL}, "environ": {}, "files": {}, "host": ""}
        for number, place in zip((5, 4, 3, 2, 1, 0), places, strict=True):
            for part, value in place.items():
                known = together[part]
                together[part] = {**known, **value} if isinstance(known, dict) else value
            self.assertEqual(self.find(**together).xname, f"x1000c0s0b0n{number}")

    def test_shasta(self):
        """A node of a Shasta system needs no configuration."""
        found = self.find(files={"/proc/cmdline": SHASTA}, host="nid000001")
        self.assertEqual(str(found.target), "https://api-gw-service-nmn.local:443/apis/hbtd/hmi/v1")
        self.assertEqual(
            (found.xname, found.nid, found.hostname), ("x3000c0s19b1n0", "1", "nid000001")
        )
        self.assertEqual(found.sources["url"], "htburl= of the kernel")

    def test_nid(self):
        """The NID is also in a file or in the host name; without any there is none."""
        given = {"url": URL, "xname": "x1000c0s0b0n0"}
        self.assertEqual(self.find(given, host="nid000083.local").nid, "83")
        self.assertEqual(self.find(given, files={"/etc/cray/nid": "7"}, host="nid000083").nid, "7")
        self.assertEqual(self.find(given, host="login1").nid, "")

    def test_every_option(self):
        """Every option is read from the environment and from the kernel command line."""
        values = {"xname": "x1c0s0b0n0", "nid": "5", "url": URL, "period": "2", "away": "3"}
        for name, _, _ in agent.OPTIONS:
            value = values.get(name, "/some/where")
            known = {**values, "cert": "c", "key": "k", name: ""}
            for place in (
                {"environ": {f"HBTD_AGENT_{name.upper()}": value}},
                {"files": {"/proc/cmdline": f"hbtd_agent.{name}={value}"}},
            ):
                found = self.find(given=known, **place)
                self.assertIn(name, found.sources)
                if name not in ("url", "period", "away"):
                    self.assertEqual(getattr(found, name), value)

    def test_unusable(self):
        """A value that can't be used is refused with its source, also if another one would do."""
        for name, value, said in (
            ("url", "hbtd.example:28500", "can't be used; it takes https://HOST:PORT"),
            ("url", "ftp://hbtd.example", "can't be used"),
            ("url", "https://user:secret@hbtd.example", "https://...@hbtd.example can't be used"),
            ("url", "https://hbtd.example/a b", "can't be used"),
            ("url", "https://hbtd.example:99999", "is no URL"),
            ("url", "https://hbtd.example\r\nX: y/", "is no URL"),
            ("url", "https://[::1", "is no URL"),
            ("xname", "x1000 c0", "is no xname"),
            ("xname", "../x1000c0s0b0n0", "is no xname"),
            ("nid", "0x53", "is no NID"),
            ("period", "0", "is no period"),
            ("period", "nan", "is no period"),
            ("period", "inf", "is no period"),
        ):
            environ = {"HBTD_AGENT_URL": URL, "HBTD_AGENT_XNAME": "x1000c0s0b0n0"}
            error = self.assertRaises(agent.Misused, self.find, {name: value}, environ)
            self.assertTrue(str(error).startswith(f"--{name}: "), error)
            self.assertIn(said, str(error))
            self.assertTrue(str(error).isascii() and "\n" not in str(error))

    def test_half(self):
        """A certificate without its key is refused."""
        given = {"url": URL, "xname": "x1000c0s0b0n0", "cert": "/etc/hbtd/node.pem"}
        self.assertRaises(agent.Misused, self.find, given)

    def test_missing(self):
        """Without a URL nothing can be done; the xname may come later."""
        self.assertRaises(agent.Misused, self.find, {"xname": "x1000c0s0b0n0"})
        error = self.assertRaises(LookupError, self.find, {"url": URL})
        self.assertIn("/etc/cray/xname", str(error))

    @given(st.text())
    def test_kernel(self, text):
        """Any kernel command line is read."""
        agent.kernel_words(text)

    def test_ports(self):
        """Without a port it is hbtd's, or the scheme's own of a gateway, which has a path."""
        for url, whole in (
            ("https://hbtd.example", "https://hbtd.example:28500/hmi/v1"),
            ("http://hbtd.example./", "http://hbtd.example:28500/hmi/v1"),
            ("https://hbtd.example:443", "https://hbtd.example:443/hmi/v1"),
            ("https://gate/apis/hbtd/hmi/v1/", "https://gate:443/apis/hbtd/hmi/v1"),
            ("http://[::1]:80/v1", "http://[::1]:80/v1"),
        ):
            self.assertEqual(str(agent.target_of(url, "--url")), whole)


class DocumentTests(SynchronousTestCase):
    """The options are described wherever people look for them."""

    def test_manual(self):
        """The manual page has every option with the text of `--help`, and no other."""
        page = (CHECKOUT / "docs" / "hbtd-agent.8").read_text().replace("\\-", "-")
        section = page.partition(".SH OPTIONS\n")[2].partition("\n.SH ")[0]
        found = re.findall(r"^\.TP\n\.B[IR]? --(\S+).*\n((?:[^.].*\n)+)", section + "\n", re.M)
        described = {name: " ".join(text.split()) for name, text in found}
        for name, _, text in agent.OPTIONS:
            self.assertEqual(described.pop(name.replace("_", "-")), text)
        self.assertEqual(sorted(described), ["help", "once", "print", "version"])

    def test_environment_file(self):
        """The file of the unit names only variables that are read."""
        text = (PATH.parent / "hbtd-agent.env").read_text()
        found = set(re.findall(r"HBTD_AGENT_([A-Z_]+)=", text))
        self.assertLessEqual(found, {name.upper() for name, _, _ in agent.OPTIONS})
        self.assertNotRegex(text, r"(?m)^[^#\n]")

    def test_unit(self):
        """The unit starts what packages install, and does not hide /proc/cmdline from it."""
        text = (PATH.parent / "hbtd-agent.service").read_text()
        self.assertIn("\nExecStart=/usr/bin/hbtd-agent\n", text)
        self.assertNotIn("\nProcSubset=pid", text)
        self.assertEqual(PATH.stat().st_mode & 0o777, 0o755)
        self.assertTrue(PATH.read_text().startswith("#!/usr/bin/python3 -IS\n"))
