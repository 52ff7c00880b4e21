from __future__ import annotations

import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dispatcher.core import access
from dispatcher.core.access import KeyRing
from dispatcher.errors import Forbidden, InvalidAuth, ValidationError
from dispatcher.model import AccessKey, Role

SECRET = b"s" * 32
NOW_UNIX_MS = 1_700_000_000_000
KEY = access.make_key(bytes(range(60)))


def key_of(role: Role, digest: bytes = b"d") -> AccessKey:
    return AccessKey(id=f"k_{role}", role=role, digest=digest)


# --- making -----------------------------------------------------------------------------------


@given(st.binary(min_size=access.KEY_RANDOM_BYTES, max_size=access.KEY_RANDOM_BYTES))
def test_a_key_is_a_token_of_the_field_s_form(random_bytes: bytes) -> None:
    key = access.make_key(random_bytes)
    assert re.fullmatch(r"ak_1[A-Za-z0-9_-]{80}", key)
    assert access.parse_bearer(f"Bearer {key}") == key
    assert access.choose_credentials(None, [f"pelion_{key}"]) == key


@given(st.binary(min_size=32, max_size=60), st.binary(min_size=32, max_size=60))
def test_different_random_bytes_make_different_keys(one: bytes, other: bytes) -> None:
    assert (access.make_key(one) == access.make_key(other)) == (one == other)


def test_a_key_of_too_few_random_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        access.make_key(b"x" * 31)


def test_ids_and_names_are_made_of_the_bytes_given() -> None:
    assert access.make_key_id(b"\x00\xff\x01\x02\x03\x04") == "k_00ff01020304"
    name = access.make_application_name(b"\x00\xff\x01\x02\x03\x04")
    assert name == "app-00ff01020304"
    access.check_name("application", name)


def test_a_digest_is_the_hmac_of_the_key_under_the_secret() -> None:
    assert access.digest(SECRET, KEY) == hmac.new(SECRET, KEY.encode(), hashlib.sha256).digest()
    assert access.digest(b"t" * 32, KEY) != access.digest(SECRET, KEY)


@pytest.mark.parametrize("name", ["a", "default", "App_1", "a.b-c", "9", "a" * 64])
def test_a_name_needs_no_escaping_in_a_url(name: str) -> None:
    access.check_name("account", name)


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", ".", "..", "-x", "_x", "ä", "a\n", "a%20", "a" * 65])
def test_what_a_url_would_escape_is_refused_by_field(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        access.check_name("application", name)
    assert [field.name for field in caught.value.fields] == ["application"]


# --- arriving ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer ak_1x", "ak_1x"),
        ("bearer ak_1x", "ak_1x"),
        ("BEARER ak_1x", "ak_1x"),
        ("Bearer   ak_1x  ", "ak_1x"),
        ("Bearer abc.def-_~+/==", "abc.def-_~+/=="),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("ak_1x", None),
        ("Basic ak_1x", None),
        ("Bearerak_1x", None),
        ("XBearer ak_1x", None),
        ("Bearer ak_1x ak_1y", None),
        ("Bearer ak_1x, Bearer ak_1y", None),
        ("Bearer ak=1x", None),
        ("Bearer ak_1\x00", None),
        ("Bearer ak_1x\n", None),
        ("Bearer ak_1ü", None),
        ("Bearer \udce9", None),
    ],
)
def test_a_bearer_header_holds_one_token(header: str, key: str | None) -> None:
    assert access.parse_bearer(header) == key


@pytest.mark.parametrize(
    ("authorization", "subprotocols", "key"),
    [
        ("Bearer ak_1h", (), "ak_1h"),
        ("Bearer ak_1h", ("wss",), "ak_1h"),
        (None, ("wss", "pelion_ak_1s"), "ak_1s"),
        (None, ("pelion_ak_1s", "wss"), "ak_1s"),
        (None, ("pelion_ak_1s",), "ak_1s"),
        (None, ("pelion_ak_1s", "pelion_ak_1t"), "ak_1s"),
        ("Bearer ak_1h", ("wss", "pelion_ak_1s"), "ak_1h"),
        ("Basic x", ("wss", "pelion_ak_1s"), None),
        ("", ("wss", "pelion_ak_1s"), None),
        (None, (), None),
        (None, ("wss",), None),
        (None, ("wss", "ak_1s"), None),
        (None, ("wss", "PELION_ak_1s"), None),
        (None, ("wss", "pelion_"), None),
        (None, ("wss", "pelion_a b"), None),
    ],
)
def test_the_header_wins_over_the_subprotocol(
    authorization: str | None, subprotocols: tuple[str, ...], key: str | None
) -> None:
    assert access.choose_credentials(authorization, subprotocols) == key


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        (("wss", "pelion_ak_1s"), "wss"),
        (("pelion_ak_1s", "wss"), "wss"),
        (("wss",), "wss"),
        (("chat", "wss"), "wss"),
        (("pelion_ak_1s",), "pelion_ak_1s"),
        ((), None),
        (("chat",), None),
        (("chat", "pelion_ak_1s"), None),  # something else was offered: the key is not sent back
        (("WSS",), None),
    ],
)
def test_the_answer_is_wss_and_the_key_only_when_nothing_else_was_offered(
    offered: tuple[str, ...], answer: str | None
) -> None:
    assert access.answer_subprotocol(offered) == answer


# --- whom they stand for ------------------------------------------------------------------------


def test_a_ring_knows_the_keys_it_was_given_and_no_others() -> None:
    known = key_of(Role.GATEWAY, access.digest(SECRET, KEY))
    ring = KeyRing(SECRET, [known])
    assert ring.authenticate(KEY) is known
    for unknown in ("", KEY[:-1], KEY + "A", KEY.lower(), known.id, known.digest.hex()):
        assert ring.authenticate(unknown) is None
    assert ring.keys() == (known,)


def test_a_ring_under_another_secret_knows_no_key() -> None:
    known = key_of(Role.GATEWAY, access.digest(SECRET, KEY))
    assert KeyRing(b"t" * 32, [known]).authenticate(KEY) is None


def test_a_ring_shows_neither_its_secret_nor_its_keys() -> None:
    ring = KeyRing(SECRET, [key_of(Role.ADMIN)])
    assert repr(ring) == "<KeyRing keys=1>"


@pytest.mark.parametrize("needed", list(Role))
@pytest.mark.parametrize("held", list(Role))
def test_a_key_acts_in_its_own_role_alone(held: Role, needed: Role) -> None:
    key = key_of(held)
    if held is needed:
        assert access.authorize(key, needed, NOW_UNIX_MS) is key
    else:
        with pytest.raises(Forbidden, match=f"needs an? {needed} key; the one used is an? {held} key"):
            access.authorize(key, needed, NOW_UNIX_MS)


def test_no_key_is_an_invalid_one() -> None:
    with pytest.raises(InvalidAuth, match=r"^Invalid access token\.$"):
        access.authorize(None, Role.APPLICATION, NOW_UNIX_MS)


def test_a_key_opens_nothing_from_the_moment_it_expires() -> None:
    key = replace(key_of(Role.GATEWAY), expires_unix_ms=NOW_UNIX_MS)
    assert access.authorize(key, Role.GATEWAY, NOW_UNIX_MS - 1) is key
    for now_unix_ms in (NOW_UNIX_MS, NOW_UNIX_MS + 1):
        with pytest.raises(InvalidAuth, match="has expired"):
            access.authorize(key, Role.GATEWAY, now_unix_ms)
        with pytest.raises(InvalidAuth, match="has expired"):  # and says nothing of its role
            access.authorize(key, Role.ADMIN, now_unix_ms)
