"""The check of clients' certificates in TLS handshakes, and the reasons why handshakes fail."""

from typing import Any

from OpenSSL import SSL

# By OpenSSL's number (X509_V_ERR_*) for what is wrong with a client's certificate.
_CERTIFICATES = {
    3: "there is no revocation list of the authority of the client's certificate",
    9: "the client's certificate is not valid yet",
    10: "the client's certificate has expired",
    18: "the client's certificate is self-signed",
    19: "the client's certificate is from an unknown authority",
    20: "the client's certificate is from an unknown authority",
    21: "the client's certificate is from an unknown authority",
    23: "the client's certificate, or an authority of it, is revoked",
    26: "the client's certificate is not for this purpose",
}

_LIST_OUT_OF_DATE = (11, 12)
"""OpenSSL's numbers for a revocation list that is not valid yet, and for one that has expired."""

_REASONS = {
    "peer did not return a certificate": "the client presents no certificate",
    "unsupported protocol": "the client offers no TLS version that is served",
    "no shared cipher": "the client offers no cipher suite that is served",
    "http request": "plain HTTP was sent to the TLS port",
    "wrong version number": "what was sent is no TLS",
    "packet length too long": "what was sent is no TLS",
}


def verify_certificate(
    connection: SSL.Connection, certificate: Any, error: int, depth: int, ok: int
) -> bool:
    """Return whether to accept a client's certificate; a callback for `Context.set_verify`.

    If OpenSSL rejects the certificate, its error number is stored in the connection, for
    `describe_handshake_failure`.

    An expired revocation list stays in force: OpenSSL still looks up the certificate in it. If an
    expired list ended all handshakes, all nodes would be declared dead because one file was not
    renewed, or because somebody prevented its renewal.
    """
    if error in _LIST_OUT_OF_DATE:
        return True
    if not ok:
        connection.set_app_data(error)
    return bool(ok)


def describe_handshake_failure(error: SSL.Error, connection: SSL.Connection) -> str:
    """Return the reason why a handshake failed, as a phrase that can follow a colon."""
    # [(library, function, reason), ...], the cause first.
    reasons = error.args[0] if error.args else []
    reason = str(reasons[0][2]) if reasons else "no reason given"
    if reason == "certificate verify failed":
        number = connection.get_app_data()
        return _CERTIFICATES.get(number, f"the client's certificate is refused, error {number}")
    if " alert " in reason:
        return f"the client ended the handshake: {reason.partition(' alert ')[2]}"
    return _REASONS.get(reason, reason)
