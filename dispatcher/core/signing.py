"""Which secrets sign an application's deliveries, now and after another secret was given.  Pure."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.model import Signing


def renewed(before: Signing | None, secret: bytes | None, now_unix_ms: int) -> Signing | None:
    """What signs after a registration with this secret; None: nothing does.

    The same secret again changes nothing.  Another one takes its place at once, and the
    one before signs too for ``limits.SIGNING_OVERLAP_S``, so that a receiver may learn of
    the new one in its own time.
    """
    if secret is None:
        return None
    if before is None:
        return Signing(secret=secret)
    if before.secret == secret:
        return before
    until_unix_ms = now_unix_ms + int(limits.SIGNING_OVERLAP_S * 1000)
    return Signing(secret=secret, older_secret=before.secret, older_until_unix_ms=until_unix_ms)


def secrets_at(signing: Signing, now_unix_ms: int) -> tuple[bytes, ...]:
    """The secrets that sign at a moment, the newest first."""
    if signing.older_secret is None or signing.older_until_unix_ms <= now_unix_ms:
        return (signing.secret,)
    return (signing.secret, signing.older_secret)
