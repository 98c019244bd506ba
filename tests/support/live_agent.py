"""A live hbtd for tests of hbtd-agent, and the options of an agent."""

import os
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.support.certificates import make_identity, write_identity
from tests.support.running import NODE, start_hbtd


def options(url, *others, xname=NODE):
    """Return the options of an agent that beats every second."""
    return [f"--url={url}", f"--xname={xname}", "--nid=1", "--period=1", *others]


class LiveTestCase(TestCase):
    """A live hbtd that takes heartbeats over TLS, with client certificates only."""

    def start(self, **params):
        """Start hbtd; return it with the options that trust it."""
        self.folder = Path(self.mktemp())
        self.authority = make_identity("nodes")
        bundle, _ = write_identity(self.authority, self.folder / "ca")
        cert, key = write_identity(make_identity("localhost"), self.folder / "hbtd")
        access = {"tls_client_ca": str(bundle), "node_access": "cert"}
        hbtd = start_hbtd(self, tls_cert=str(cert), tls_key=str(key), **{**access, **params})
        return hbtd, [f"--ca={cert}"]

    def certify(self, name):
        """Put the certificate of a node in its place; return the options that name it."""
        new = write_identity(make_identity(name, self.authority), self.folder / f"new-{name}")
        places = [self.folder / "node.pem", self.folder / "node-key.pem"]
        for path, place in zip(new, places, strict=True):
            os.rename(path, place)
        return [f"--cert={places[0]}", f"--key={places[1]}"]
