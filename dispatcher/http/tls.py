"""The server's TLS context, and the certificate in it."""

from __future__ import annotations

import ssl
from pathlib import Path

from dispatcher.errors import ConfigError

_CERTIFICATE = "server.tls_certificate"
_KEY = "server.tls_key"


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for ``open_listeners``: TLS 1.2 and newer, HTTP/1.1.

    ``certificate`` is a PEM chain, the server's own first; ``key`` its PEM key, not
    encrypted.  Raises ``ConfigError`` that names the setting at fault.
    """
    _check_pem(_CERTIFICATE, certificate, b"BEGIN CERTIFICATE")
    _check_pem(_KEY, key, b"PRIVATE KEY")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except ssl.SSLError as error:
        raise ConfigError(_explain(error, certificate, key)) from None
    return context


def renew(context: ssl.SSLContext, newer: ssl.SSLContext) -> None:
    """Let handshakes that begin from now on show the certificate of ``newer``.

    ``context`` is the one that listeners have.  Nothing of it is changed but where it points:
    loading files into it would take their certificate before their key is found to fit.
    Connections that are open stay as they are.
    """

    def show_newer(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = newer

    # Called in every handshake, also when the client names no server.
    context.sni_callback = show_newer


def _check_pem(setting: str, path: Path, mark: bytes) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror}") from None
    if mark not in data:
        raise ConfigError(f"{setting}: {path} is no PEM file with {mark.decode()} in it")


def _refuse_password() -> str:
    raise ConfigError(f"{_KEY}: the key is encrypted; the dispatcher needs one without a password")


def _explain(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{_KEY}: {key} is not the key of {_CERTIFICATE} {certificate}"
    if _is_readable_certificate(certificate):
        return f"{_KEY}: {key} holds no private key that OpenSSL can read"
    return f"{_CERTIFICATE}: {certificate} holds no certificate that OpenSSL can read"


def _is_readable_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True
