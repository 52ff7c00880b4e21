"""The TLS side of callbacks: whom we trust, who we say we are, and what went wrong."""

from __future__ import annotations

import ssl

from dispatcher.errors import ConfigError


def client_context(*, ca: str = "", certificate: str = "", key: str = "") -> ssl.SSLContext:
    """The context that every https callback is called with.

    Trusts the system's roots, and those in the PEM file ``ca`` besides; checks the
    host name.  ``certificate`` (its chain included) and ``key``, PEM files, are shown
    to receivers that ask for a client certificate.  Empty paths: none.

    Reads the files now, so that a wrong one stops the start and not a delivery.
    Raises ``ConfigError``.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca:
        _load_roots(context, ca)
    if certificate:
        _load_identity(context, certificate, key)
    return context


def tls_problem(error: BaseException, otherwise: str) -> str:
    """What was wrong with TLS, for the receiver's owner; ``error`` is Trio's, its cause OpenSSL's.

    Our own words and OpenSSL's fixed ones: of what the receiver said, only the number of an
    alert has a say in them.  ``otherwise`` is for when OpenSSL knows nothing.
    """
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        known = _CERTIFICATE_PROBLEMS.get(cause.verify_code)
        return known or f"its certificate was not accepted: {cause.verify_message}"
    if not isinstance(cause, ssl.SSLError) or not cause.reason:
        return otherwise
    _, _, alert = cause.reason.partition("ALERT_")
    if alert:
        return f"it refused the handshake ({alert.lower().replace('_', ' ')})"
    return _HANDSHAKE_PROBLEMS.get(cause.reason, otherwise)


_UNKNOWN_AUTHORITY = "its certificate is of an authority not known here, or its chain is not complete"
_OTHER_NAME = "its certificate is for another name"
_CERTIFICATE_PROBLEMS = {  # X509_V_ERR_...
    2: _UNKNOWN_AUTHORITY,
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
_HANDSHAKE_PROBLEMS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS newer than 1.1",
}


def _load_roots(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"callbacks.ca: {path} cannot be used ({error.strerror}); want a PEM file of certificates"
        ) from error


def _load_identity(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        # An encrypted key must not make the daemon ask for its password on the terminal.
        context.load_cert_chain(certificate, key or None, password="")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the key is encrypted"
        raise ConfigError(
            f"callbacks.client_certificate: {certificate} and {key or 'no key'} cannot be used ({reason}); "
            "want a PEM chain and its key without a password"
        ) from error
