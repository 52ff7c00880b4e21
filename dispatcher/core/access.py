"""Access keys: how they look, how they arrive, whom they stand for.  Pure.

A key is random text that is shown once and never kept.  What is kept, and looked
up at every request, is its HMAC-SHA256 under the server's secret: a stolen
registry without the secret lets nobody in, and neither does the secret without
the keys.  Keys have 480 random bits, so a slow password hash would add nothing.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Sequence

from dispatcher.errors import FieldError, Forbidden, InvalidAuth, ValidationError
from dispatcher.limits import NAME_CHARS_MAX
from dispatcher.model import AccessKey, Role

KEY_PREFIX = "ak_1"  # the field's own: "ak_" and 1 for an API key
KEY_RANDOM_BYTES = 60  # 80 characters of base64, without padding; the field's keys have 80 to 112
KEY_RANDOM_BYTES_MIN = 32  # under this a key could be guessed from a stolen digest some day
KEY_ID_RANDOM_BYTES = 6
APPLICATION_NAME_RANDOM_BYTES = 6

WEBSOCKET_PROTOCOL = "wss"
KEY_PROTOCOL_PREFIX = "pelion_"

_TOKEN = r"[A-Za-z0-9\-._~+/]+=*"  # token68 of RFC 9110, section 11.2
_TOKEN_ONLY = re.compile(_TOKEN)
_BEARER = re.compile(rf"[Bb][Ee][Aa][Rr][Ee][Rr] +({_TOKEN})")
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._\-]{{0,{NAME_CHARS_MAX - 1}}}")

_ARTICLES = {Role.APPLICATION: "an application", Role.GATEWAY: "a gateway", Role.ADMIN: "an admin"}


class KeyRing:
    """The keys that are not revoked.  Immutable: a change of the keys is a new ring."""

    def __init__(self, secret: bytes, keys: Iterable[AccessKey]) -> None:
        self._secret = secret
        self._by_digest = {key.digest: key for key in keys}

    def __repr__(self) -> str:
        return f"<KeyRing keys={len(self._by_digest)}>"

    def keys(self) -> tuple[AccessKey, ...]:
        """All of them."""
        return tuple(self._by_digest.values())

    def holds(self, key: AccessKey) -> bool:
        """Whether a key found earlier is still in it."""
        return key.digest in self._by_digest

    def authenticate(self, key: str) -> AccessKey | None:
        """What is known of this key, None when it was never made, or is revoked.

        A plain lookup: who cannot compute digests cannot learn from its timing.
        """
        return self.find(self.digest(key))

    def digest(self, key: str) -> bytes:
        """What would be kept of this key; the same in every ring of a server."""
        return digest(self._secret, key)

    def find(self, digest: bytes) -> AccessKey | None:
        """The key with this digest; None as above."""
        return self._by_digest.get(digest)


def digest(secret: bytes, key: str) -> bytes:
    """What is kept of a key: 32 bytes."""
    return hmac.digest(secret, key.encode(), "sha256")


def make_key(random_bytes: bytes) -> str:
    """A new key's text: letters, digits, ``-`` and ``_`` only, so that a subprotocol can carry it."""
    if len(random_bytes) < KEY_RANDOM_BYTES_MIN:
        raise ValueError(f"a key needs {KEY_RANDOM_BYTES_MIN} random bytes at least, got {len(random_bytes)}")
    return KEY_PREFIX + base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode("ascii")


def make_key_id(random_bytes: bytes) -> str:
    """A key's public name, for lists and revocation; it says nothing about the key."""
    return f"k_{random_bytes.hex()}"


def make_application_name(random_bytes: bytes) -> str:
    """The name of an application that was given none."""
    return f"app-{random_bytes.hex()}"


def check_name(field: str, name: str) -> None:
    """Refuse (``ValidationError``) an account's or application's name that a URL would have to escape."""
    if _NAME.fullmatch(name) is None:
        want = f"1 to {NAME_CHARS_MAX} letters, digits, '.', '_' or '-', starting with a letter or digit"
        raise ValidationError(
            f"{field} {name!r} is not a name: want {want}", fields=(FieldError(name=field, message=want),)
        )


def parse_bearer(authorization: str) -> str | None:
    """The key in an ``Authorization`` header; None for another scheme or anything malformed."""
    found = _BEARER.fullmatch(authorization.strip(" \t"))
    return None if found is None else found[1]


def choose_credentials(authorization: str | None, subprotocols: Sequence[str]) -> str | None:
    """The key a WebSocket handshake offers, by header or as ``pelion_<key>``.

    The header wins, even when it holds nothing usable: the subprotocol is for
    clients that cannot set a header, never a second try for those that did.
    """
    if authorization is not None:
        return parse_bearer(authorization)
    for item in subprotocols:
        if item.startswith(KEY_PROTOCOL_PREFIX):
            key = item.removeprefix(KEY_PROTOCOL_PREFIX)
            return key if _TOKEN_ONLY.fullmatch(key) else None
    return None


def answer_subprotocol(offered: Sequence[str]) -> str | None:
    """The ``Sec-WebSocket-Protocol`` of the 101; None: leave the header out.

    Clients fail on an answer they did not offer and most on none when they
    offered; so the key goes back only to those that offered nothing else.
    """
    if WEBSOCKET_PROTOCOL in offered:
        return WEBSOCKET_PROTOCOL
    has_keys_only = all(item.startswith(KEY_PROTOCOL_PREFIX) for item in offered)
    return offered[0] if offered and has_keys_only else None


def authorize(access_key: AccessKey | None, role: Role, now_unix_ms: int) -> AccessKey:
    """The key, when it may act in this role now.

    Raises ``InvalidAuth`` when there is none or it has expired, ``Forbidden`` when it is of
    another role.
    """
    if access_key is None:
        raise InvalidAuth("Invalid access token.")
    if access_key.expires_unix_ms is not None and access_key.expires_unix_ms <= now_unix_ms:
        raise InvalidAuth("The access token has expired.")
    if access_key.role is not role:
        used, wanted = _ARTICLES[access_key.role], _ARTICLES[role]
        raise Forbidden(f"This needs {wanted} key; the one used is {used} key.")
    return access_key
