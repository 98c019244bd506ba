"""TLS records made by hand, as no library makes them: half messages, floods, renegotiation."""

import hmac
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

HANDSHAKE = 22
APPLICATION_DATA = 23

KEY_UPDATE = b"\x18\x00\x00\x01\x00"
"""A message that announces new keys (RFC 8446 4.6.3)."""

KEY_UPDATE_REQUEST = b"\x18\x00\x00\x01\x01"
"""The same, which also asks the other end for new keys."""


def context_with_secrets(secrets: list[bytes]) -> SSL.Context:
    """Return the context of a TLS 1.3 client that adds its connections' traffic secrets to a list.

    All of its connections use AES-128 and SHA-256.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")

    def note(connection: Any, line: bytes) -> None:
        label, _, secret = line.split()
        if label == b"CLIENT_TRAFFIC_SECRET_0":
            secrets.append(bytes.fromhex(secret.decode()))

    context.set_keylog_callback(note)
    return context


class RecordWriter:
    """Encrypts the records of a client whose handshake is complete and which has sent nothing."""

    def __init__(self, secret: bytes) -> None:
        """Begin with the client's traffic secret."""
        self._begin(secret)

    def _begin(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = AESGCM(_expand(secret, b"key", 16))
        self._iv = int.from_bytes(_expand(secret, b"iv", 12), "big")
        self._number = 0

    def record(self, content: bytes, kind: int = APPLICATION_DATA) -> bytes:
        """Return a record with some content."""
        header = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2, "big")
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        return header + self._cipher.encrypt(nonce, content + bytes([kind]), header)

    def update_keys(self, message: bytes = KEY_UPDATE) -> bytes:
        """Return a record that announces new keys, and use these from now on."""
        record = self.record(message, HANDSHAKE)
        self.new_keys()
        return record

    def new_keys(self) -> None:
        """Use new keys, which have been announced."""
        self._begin(_expand(self._secret, b"traffic upd", 32))


class OldRecordWriter:
    """The same for TLS 1.2, with AES-128-GCM and SHA-256, whose keys stay the same."""

    def __init__(self, connection: SSL.Connection) -> None:
        """Begin with a client's connection, whose handshake is complete."""
        master, server = connection.master_key(), connection.server_random()
        client = connection.client_random()
        assert master is not None
        assert server is not None
        assert client is not None
        keys = _derive(master, b"key expansion" + server + client)
        self._cipher, self._salt = AESGCM(keys[:16]), keys[32:36]
        self._number = 1  # the first record was the end of the handshake

    def record(self, content: bytes, kind: int = APPLICATION_DATA) -> bytes:
        """Return a record with some content."""
        number = self._number.to_bytes(8, "big")
        self._number += 1
        header = bytes([kind]) + b"\x03\x03"
        data = number + header + len(content).to_bytes(2, "big")
        content = number + self._cipher.encrypt(self._salt + number, content, data)
        return header + len(content).to_bytes(2, "big") + content


HELLO = b"\x01\x00\x00\x2d\x03\x03" + bytes(32) + b"\x00\x00\x02\xc0\x2b\x01\x00\x00\x02\xff\x01"
"""A message that asks for a new handshake, within one that is complete."""


def _derive(secret: bytes, seed: bytes) -> bytes:
    """Return the first 64 bytes of the pseudorandom function of RFC 5246 5."""
    derived, step = b"", seed
    while len(derived) < 64:
        step = hmac.digest(secret, step, "sha256")
        derived += hmac.digest(secret, step + seed, "sha256")
    return derived


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00"
    return HKDFExpand(SHA256(), length, info).derive(secret)
