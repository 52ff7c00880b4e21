"""Signatures, judged by the published package; and the ids that they are made with."""

from __future__ import annotations

import base64
import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from dispatcher import limits
from dispatcher.model import Position
from dispatcher.wire.webhook_signature import Signature, id_of, message_id, parse_secret

secrets = st.binary(min_size=limits.SIGNING_SECRET_BYTES_MIN, max_size=limits.SIGNING_SECRET_BYTES_MAX)


def written(secret: bytes) -> str:
    return f"whsec_{base64.b64encode(secret).decode()}"


def signed(body: bytes, *of: bytes, id: str = "msg_1", unix_s: int | None = None) -> dict[str, str]:
    signature = Signature(of, id, int(time.time()) if unix_s is None else unix_s)
    for start in range(0, len(body), 7):
        signature.update(body[start : start + 7])
    return dict(signature.headers())


@given(st.lists(secrets, min_size=1, max_size=2), st.text(max_size=50).map(str.encode))
def test_the_published_package_verifies_with_each_of_the_secrets(of: list[bytes], body: bytes) -> None:
    headers = signed(body, *of)
    for secret in of:
        Webhook(written(secret)).verify(body, headers, json_parse=False)


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp", "secret"])
def test_nothing_of_what_is_signed_can_be_changed(changed: str) -> None:
    secret, body = bytes(range(32)), b'{"notifications":[]}'
    headers = signed(body, secret)
    match changed:
        case "body":
            body = body.replace(b"[", b"[ ")
        case "secret":
            secret = secret[::-1]
        case "webhook-timestamp":
            headers[changed] = str(int(headers[changed]) + 1)
        case _:
            headers[changed] += "0"
    with pytest.raises(WebhookVerificationError):
        Webhook(written(secret)).verify(body, headers, json_parse=False)


def test_a_signature_of_ten_minutes_ago_is_refused_by_the_package() -> None:
    headers = signed(b"{}", bytes(32), unix_s=int(time.time()) - 600)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(written(bytes(32))).verify(b"{}", headers)


@given(secrets)
def test_a_secret_is_read_with_and_without_padding(secret: bytes) -> None:
    assert parse_secret(written(secret)) == secret
    assert parse_secret(written(secret).rstrip("=")) == secret


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        base64.b64encode(bytes(32)).decode(),
        written(bytes(23)),
        written(bytes(65)),
        written(bytes(32)).replace("whsec_", "WHSEC_"),
        f"whsec_{written(bytes(32))}",
        written(bytes(32)) + "\n",
        " " + written(bytes(32)),
        f"whsec_{'-_' * 22}",
        f"whsec_{'A' * 45}",
        "whsec_" + "\u0410" * 44,
        written(bytes(32)) + "====",
    ],
)
def test_what_is_no_secret_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_ and the base64 of 24 to 64 bytes") as caught:
        parse_secret(text)
    assert len(str(caught.value)) < 60


def test_an_id_is_the_same_for_the_same_place_and_another_for_every_other() -> None:
    positions = [Position(1, 5), Position(1, 5, True), Position(2, 5), Position(1, 6)]
    places = list(product((0, 2**64 - 1), positions, positions, (0, 1), (0, 5, 2**32)))
    ids = [message_id(*place) for place in places]
    assert len(set(ids)) == len(places)
    assert [message_id(*place) for place in places] == ids
    assert all("." not in id and len(id) == 36 for id in ids)


def test_an_id_is_what_it_was_in_every_earlier_version() -> None:
    """Receivers remember ids, and a batch may be frozen over an upgrade."""
    assert message_id(7, Position(1, 1), Position(1, 3), 0, 180) == "msg_0a749258d27d294a2485db9d05cb7e9e"
    assert id_of(bytes(16)) == f"msg_{'0' * 32}"
