"""What became of the requests that carried an ``Idempotency-Key``.

A key is in flight, or answered, or unknown.  The table decides; whoever asks waits for
what is in flight, and for an answer to be durable before it gives it again.  Every step
is O(1), and so is forgetting.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256

import msgspec

from dispatcher import limits
from dispatcher.errors import TooManyRequests, UnprocessableKey
from dispatcher.model import Ticket


class KeyScope(msgspec.Struct, frozen=True):
    """Where a key means something: the same key elsewhere is another one.

    A digest stands for access key, path and key: what callers chose is neither kept nor stored.
    """

    account_id: int
    digest: bytes


def key_scope(account_id: int, access_key_id: str, path: str, key: str) -> KeyScope:
    """The scope of a request's key; none of the three texts has a NUL in it (FORMAT.md, the answer)."""
    text = "\0".join((access_key_id, path, key))
    return KeyScope(account_id, sha256(text.encode()).digest())


class Begun(msgspec.Struct, frozen=True):
    """Nobody knows this key: carry the request out, then ``finish`` or ``abandon``."""


class InFlight(msgspec.Struct, frozen=True):
    """The same request is being carried out: wait for it, then ``begin`` again."""


class Answered(msgspec.Struct, frozen=True):
    """The same request was carried out: give this answer again, once it is durable."""

    answer: bytes
    ticket: Ticket | None = None  # to wait for; None: it is durable


class KeptAnswer(msgspec.Struct):
    """A finished request, as it is kept."""

    body_sha256: bytes
    answer: bytes
    answered_unix_ms: int
    ticket: Ticket | None = None  # taken away by whoever gave it, when the answer is durable


class _Account:
    def __init__(self) -> None:
        self.in_flight: dict[bytes, bytes] = {}  # digest -> the body's SHA-256
        self.kept: OrderedDict[bytes, KeptAnswer] = OrderedDict()  # by digest, first answered first


class IdempotencyTable:
    """The keys of all accounts.  Times are Unix milliseconds of a clock that does not step back.

    An account has at most ``keys_max`` keys, those in flight included.  An answer is kept for
    ``lifetime_ms``, or until newer keys need its place; the oldest goes first.  What is in
    flight is never forgotten.
    """

    def __init__(
        self,
        *,
        keys_max: int = limits.IDEMPOTENCY_KEYS_PER_ACCOUNT_MAX,
        lifetime_ms: int = limits.IDEMPOTENCY_LIFETIME_MS,
    ) -> None:
        self._keys_max = keys_max
        self._lifetime_ms = lifetime_ms
        self._accounts: OrderedDict[int, _Account] = OrderedDict()  # asked for longest ago first
        self._kept = 0

    @property
    def kept(self) -> int:
        """How many answers are kept, over all accounts."""
        return self._kept

    def count(self, account_id: int) -> int:
        """How many keys an account has, those in flight included."""
        account = self._accounts.get(account_id)
        return len(account.in_flight) + len(account.kept) if account else 0

    def begin(self, scope: KeyScope, body_sha256: bytes, now_unix_ms: int) -> Begun | InFlight | Answered:
        """Say what to do with a request.

        Raises ``UnprocessableKey`` when the key came with another body before, and
        ``TooManyRequests`` when all of the account's keys are in flight.
        """
        account = self._asked_for(scope.account_id)
        self._forget_expired(account, now_unix_ms)
        self._forget_accounts(now_unix_ms)
        first_sha256 = account.in_flight.get(scope.digest)
        if first_sha256 is not None:
            _require_same_body(first_sha256, body_sha256)
            return InFlight()
        kept = account.kept.get(scope.digest)
        if kept is not None:
            _require_same_body(kept.body_sha256, body_sha256)
            return Answered(kept.answer, kept.ticket)
        if len(account.in_flight) >= self._keys_max:
            raise TooManyRequests("too many requests with an Idempotency-Key are in flight", retry_after_s=1)
        account.in_flight[scope.digest] = body_sha256
        self._make_room(account)
        return Begun()

    def finish(
        self, scope: KeyScope, answer: bytes, now_unix_ms: int, ticket: Ticket | None = None
    ) -> KeptAnswer:
        """Keep the answer of a request that was begun; the ticket says when it is durable."""
        account = self._accounts[scope.account_id]
        kept = KeptAnswer(account.in_flight.pop(scope.digest), answer, now_unix_ms, ticket)
        account.kept[scope.digest] = kept
        self._kept += 1
        return kept

    def abandon(self, scope: KeyScope) -> None:
        """A request that was begun is over: unless it was finished, the next with its key is a new one."""
        account = self._accounts.get(scope.account_id)
        if account is not None:
            account.in_flight.pop(scope.digest, None)

    def restore(self, scope: KeyScope, kept: KeptAnswer) -> None:
        """Take over an answer kept by an earlier run, oldest first, each once."""
        account = self._asked_for(scope.account_id)
        account.kept[scope.digest] = kept
        self._kept += 1
        self._make_room(account)

    def oldest_first(self) -> list[tuple[KeyScope, KeptAnswer]]:
        """All answers that are kept, each account's in the order in which they were given."""
        return [
            (KeyScope(account_id, digest), kept)
            for account_id, account in self._accounts.items()
            for digest, kept in account.kept.items()
        ]

    def kept_from(self, now_unix_ms: int) -> dict[int, int]:
        """When the oldest kept answer of each account was given; its older ones are forgotten.

        Cost: one step for each account.
        """
        oldest = {}
        for account_id, account in self._accounts.items():
            self._forget_expired(account, now_unix_ms)
            if account.kept:
                oldest[account_id] = next(iter(account.kept.values())).answered_unix_ms
        return oldest

    def _asked_for(self, account_id: int) -> _Account:
        account = self._accounts.setdefault(account_id, _Account())
        self._accounts.move_to_end(account_id)
        return account

    def _make_room(self, account: _Account) -> None:
        while account.kept and len(account.in_flight) + len(account.kept) > self._keys_max:  # one turn
            self._forget_oldest(account)

    def _forget_expired(self, account: _Account, now_unix_ms: int) -> None:
        """Amortised O(1): each answer is forgotten once."""
        while account.kept:
            if next(iter(account.kept.values())).answered_unix_ms + self._lifetime_ms > now_unix_ms:
                return
            self._forget_oldest(account)

    def _forget_oldest(self, account: _Account) -> None:
        account.kept.popitem(last=False)
        self._kept -= 1

    def _forget_accounts(self, now_unix_ms: int) -> None:
        """Forget accounts that ask no more.  Amortised O(1): the one that has just asked ends it."""
        while True:
            account_id, account = next(iter(self._accounts.items()))
            self._forget_expired(account, now_unix_ms)
            if account.in_flight or account.kept or len(self._accounts) == 1:
                return
            del self._accounts[account_id]


class FoundAnswers:
    """The answers of an earlier run as a log has them: in any order, and some of them twice.

    Holds at most twice ``keys_max`` of each account.
    """

    def __init__(self, *, keys_max: int = limits.IDEMPOTENCY_KEYS_PER_ACCOUNT_MAX) -> None:
        self._keys_max = keys_max
        self._accounts: dict[int, dict[bytes, KeptAnswer]] = {}

    def add(self, scope: KeyScope, kept: KeptAnswer) -> None:
        """Take note of one; of two answers to one key the newer counts."""
        found = self._accounts.setdefault(scope.account_id, {})
        earlier = found.get(scope.digest)
        if earlier is None or earlier.answered_unix_ms < kept.answered_unix_ms:
            found[scope.digest] = kept
        if len(found) > 2 * self._keys_max:
            self._accounts[scope.account_id] = dict(self._newest(found))

    def oldest_first(self) -> Iterator[tuple[KeyScope, KeptAnswer]]:
        """Those that count, each account's in the order in which they were given."""
        for account_id, found in self._accounts.items():
            for digest, kept in self._newest(found):
                yield KeyScope(account_id, digest), kept

    def _newest(self, found: dict[bytes, KeptAnswer]) -> list[tuple[bytes, KeptAnswer]]:
        in_order = sorted(found.items(), key=lambda item: item[1].answered_unix_ms)
        return in_order[-self._keys_max :]


def _require_same_body(first_sha256: bytes, body_sha256: bytes) -> None:
    if first_sha256 != body_sha256:
        raise UnprocessableKey("this Idempotency-Key was used before with another body; take a new key")
