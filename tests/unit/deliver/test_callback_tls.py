from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from dispatcher.deliver.callback_tls import client_context
from dispatcher.errors import ConfigError


def test_the_context_checks_names_and_certificates_and_nothing_old() -> None:
    context = client_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_an_extra_root_comes_besides_the_systems(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    before, after = client_context().cert_store_stats(), client_context(ca=str(path)).cert_store_stats()
    assert after["x509_ca"] == before["x509_ca"] + 1


def test_files_that_cannot_be_used_stop_the_start_by_name(tmp_path: Path) -> None:
    empty, missing = tmp_path / "empty.pem", tmp_path / "missing.pem"
    empty.touch()
    for path in (empty, missing):
        with pytest.raises(ConfigError, match=r"callbacks\.ca: .*\.pem cannot be used"):
            client_context(ca=str(path))
        with pytest.raises(ConfigError, match=r"callbacks\.client_certificate: .*\.pem .* cannot be used"):
            client_context(certificate=str(path), key=str(path))


def test_a_key_of_another_certificate_stops_the_start(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    authority.issue_cert("a").cert_chain_pems[0].write_to_path(str(certificate))
    authority.issue_cert("b").private_key_pem.write_to_path(str(key))
    with pytest.raises(ConfigError, match="client_certificate"):
        client_context(certificate=str(certificate), key=str(key))


def test_an_encrypted_key_stops_the_start_and_asks_nobody(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    identity = trustme.CA().issue_cert("a")
    plain = serialization.load_pem_private_key(identity.private_key_pem.bytes(), password=None)
    encrypted = plain.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    identity.cert_chain_pems[0].write_to_path(str(certificate))
    key.write_bytes(encrypted)
    with pytest.raises(ConfigError, match="without a password"):
        client_context(certificate=str(certificate), key=str(key))
