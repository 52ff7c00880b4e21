"""What became of the requests that carried an ``Idempotency-Key``.

A key is in flight, or done with an answer, or unknown.  The table decides; whoever
asks waits for what is in flight.  Every step is O(1), and so is forgetting.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from dispatcher import limits
from dispatcher.errors import TooManyRequests, UnprocessableKey


class KeyScope(msgspec.Struct, frozen=True):
    """Where a key means something: the same key elsewhere is another one."""

    account_id: int
    access_key_id: str
    path: str
    key: str


class Begun(msgspec.Struct, frozen=True):
    """Nobody knows this key: carry the request out, then ``finish`` or ``abandon``."""


class InFlight(msgspec.Struct, frozen=True):
    """The same request is being carried out: wait for it, then ``begin`` again."""


class Answered(msgspec.Struct, frozen=True):
    """The same request was carried out: give this answer again."""

    answer: bytes


class KeptAnswer(msgspec.Struct, frozen=True):
    """A finished request, as it is kept."""

    body_sha256: bytes
    answer: bytes
    finished_s: float


class _Account:
    def __init__(self) -> None:
        self.in_flight: dict[KeyScope, bytes] = {}  # the body's SHA-256
        self.kept: OrderedDict[KeyScope, KeptAnswer] = OrderedDict()  # first finished first


class IdempotencyTable:
    """The keys of all accounts.  Times are seconds of any clock that does not step back.

    An account has at most ``keys_max`` keys, those in flight included.  An answer is kept for
    ``lifetime_s``, or until newer keys need its place; the oldest goes first.  What is in
    flight is never forgotten.
    """

    def __init__(
        self,
        *,
        keys_max: int = limits.IDEMPOTENCY_KEYS_PER_ACCOUNT_MAX,
        lifetime_s: float = limits.IDEMPOTENCY_LIFETIME_S,
    ) -> None:
        self._keys_max = keys_max
        self._lifetime_s = lifetime_s
        self._accounts: dict[int, _Account] = {}

    def begin(self, scope: KeyScope, body_sha256: bytes, now_s: float) -> Begun | InFlight | Answered:
        """Say what to do with a request.

        Raises ``UnprocessableKey`` when the key came with another body before, and
        ``TooManyRequests`` when all of the account's keys are in flight.
        """
        account = self._accounts.setdefault(scope.account_id, _Account())
        self._forget_expired(account, now_s)
        first_sha256 = account.in_flight.get(scope)
        if first_sha256 is not None:
            _require_same_body(first_sha256, body_sha256)
            return InFlight()
        kept = account.kept.get(scope)
        if kept is not None:
            _require_same_body(kept.body_sha256, body_sha256)
            return Answered(kept.answer)
        if len(account.in_flight) >= self._keys_max:
            raise TooManyRequests("too many requests with an Idempotency-Key are in flight", retry_after_s=1)
        account.in_flight[scope] = body_sha256
        self._make_room(account)
        return Begun()

    def finish(self, scope: KeyScope, answer: bytes, now_s: float) -> None:
        """Keep the answer of a request that was begun."""
        account = self._accounts[scope.account_id]
        account.kept[scope] = KeptAnswer(account.in_flight.pop(scope), answer, now_s)

    def abandon(self, scope: KeyScope) -> None:
        """A request that was begun stored nothing: the next with its key is a new one."""
        self._accounts[scope.account_id].in_flight.pop(scope)

    def restore(self, scope: KeyScope, kept: KeptAnswer) -> None:
        """Take over an answer kept by an earlier run, oldest first."""
        account = self._accounts.setdefault(scope.account_id, _Account())
        account.kept[scope] = kept
        account.kept.move_to_end(scope)
        self._make_room(account)

    def count(self, account_id: int) -> int:
        """How many keys an account has, those in flight included."""
        account = self._accounts.get(account_id)
        return len(account.in_flight) + len(account.kept) if account else 0

    def _make_room(self, account: _Account) -> None:
        while account.kept and len(account.in_flight) + len(account.kept) > self._keys_max:  # one turn
            account.kept.popitem(last=False)

    def _forget_expired(self, account: _Account, now_s: float) -> None:
        """Amortised O(1): each answer is forgotten once."""
        while account.kept:
            scope = next(iter(account.kept))
            if account.kept[scope].finished_s + self._lifetime_s > now_s:
                return
            del account.kept[scope]


def _require_same_body(first_sha256: bytes, body_sha256: bytes) -> None:
    if first_sha256 != body_sha256:
        raise UnprocessableKey("this Idempotency-Key was used before with another body; take a new key")
