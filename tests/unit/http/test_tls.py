from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
import trustme

from dispatcher.errors import ConfigError
from dispatcher.http.tls import renew, server_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write(folder: Path, authority: trustme.CA, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate chain and its key, as an operator has them."""
    issued = authority.issue_cert(name)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key


def shake_hands(server: ssl.SSLContext, authority: trustme.CA, name: str = "localhost") -> str | None:
    """Shake hands in memory; gives the TLS version."""
    client = ssl.create_default_context()
    authority.configure_trust(client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server, server_hostname=name)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        if client_side.version() and server_side.version():
            break
    return client_side.version()


def test_context_serves_its_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    context = server_context(*write(tmp_path, authority))
    assert shake_hands(context, authority) == "TLSv1.3"
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_newer_certificate_is_shown_from_then_on(tmp_path: Path, authority: trustme.CA) -> None:
    context = server_context(*write(tmp_path, authority))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, authority, "newer.test")
    for name in ("newer.test", "newest.test"):
        renew(context, server_context(*write(tmp_path, authority, name)))
        assert shake_hands(context, authority, name)
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(context, authority)


def test_newer_certificate_is_shown_to_a_client_that_names_no_server(
    tmp_path: Path, authority: trustme.CA
) -> None:
    context = server_context(*write(tmp_path, authority))
    renew(context, server_context(*write(tmp_path, authority, "127.0.0.1")))
    assert shake_hands(context, authority, "127.0.0.1")  # by RFC 6066 an address is never sent as a name


@pytest.mark.parametrize("content", [None, b"", b"\x30\x82\x00\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_bad_certificate_file_names_its_setting(
    tmp_path: Path, authority: trustme.CA, content: bytes | None
) -> None:
    _, key = write(tmp_path, authority)
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^server\.tls_certificate: .*bad\.pem"):
        server_context(bad, key)


@pytest.mark.parametrize("content", [None, b"", b"\x30\x82\x00\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_bad_key_file_names_its_setting(tmp_path: Path, authority: trustme.CA, content: bytes | None) -> None:
    certificate, _ = write(tmp_path, authority)
    bad = tmp_path / "bad.key"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^server\.tls_key: .*bad\.key"):
        server_context(certificate, bad)


def test_swapped_files_are_told(tmp_path: Path, authority: trustme.CA) -> None:
    certificate, key = write(tmp_path, authority)
    with pytest.raises(ConfigError, match=r"^server\.tls_certificate: .*localhost\.key"):
        server_context(key, certificate)


def test_key_of_another_certificate_is_told(tmp_path: Path, authority: trustme.CA) -> None:
    certificate, _ = write(tmp_path, authority)
    _, key = write(tmp_path, authority, "other.test")
    with pytest.raises(ConfigError, match=r"^server\.tls_key: .* is not the key of server\.tls_certificate"):
        server_context(certificate, key)


def test_encrypted_key_is_told_and_never_asked_for(tmp_path: Path, authority: trustme.CA) -> None:
    certificate, key = write(tmp_path, authority)
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:abcd", "-out", encrypted],
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigError, match=r"^server\.tls_key: the key is encrypted"):
        server_context(certificate, encrypted)
