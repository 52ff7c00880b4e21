"""The TLS side of callbacks: whom we trust, and who we say we are."""

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
