"""How fast each account may ask and publish, and how much it may have open, by its tier at the moment."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
import trio

from dispatcher import limits
from dispatcher.config import TierSettings
from dispatcher.core.token_bucket import Allowance, Buckets, allowance, whole_seconds
from dispatcher.errors import TooManyRequests
from dispatcher.model import Account
from dispatcher.observe.burst import Burst
from dispatcher.observe.log import LogEvent, log
from dispatcher.observe.metrics import Metrics

_ROUNDED_OFF_S = 1e-6  # more than floats lose of a clock that has run for years


class _Rate(msgspec.Struct):
    """One thing that tiers limit: the allowances of those that do, and who has used some."""

    name: str
    verb: str
    by_tier: dict[str, Allowance]
    buckets: Buckets


class Budgets:
    """Asked before anything is read or stored; an account whose tier has no limit costs one look-up.

    Nothing here is kept of an account that has rested.
    """

    def __init__(self, tiers: Mapping[str, TierSettings], metrics: Metrics) -> None:
        requests = {name: allowance(tier.requests_per_s, tier.requests_burst) for name, tier in tiers.items()}
        events = {name: allowance(tier.events_per_s, tier.events_burst) for name, tier in tiers.items()}
        self._requests = _Rate("requests", "makes requests", _only_limited(requests), Buckets())
        self._events = _Rate("events", "publishes", _only_limited(events), Buckets())
        self._receivers_max = {name: tier.receivers_max for name, tier in tiers.items() if tier.receivers_max}
        self._receivers: dict[int, int] = {}
        self._metrics = metrics
        self._bursts: dict[tuple[int, str], Burst] = {}

    def take_request(self, account: Account) -> None:
        """One request of one of the account's keys.

        Raises ``TooManyRequests``: then none was taken, and after ``retry_after_s`` (whole seconds)
        there is one for whoever comes first.
        """
        if account.tier in self._requests.by_tier:
            self._check(self._requests, account)
            self._take(self._requests, account, 1)

    def check_events(self, account: Account) -> None:
        """Raise ``TooManyRequests`` while the account's gateways are over their rate; takes nothing."""
        if account.tier in self._events.by_tier:
            self._check(self._events, account)

    def take_events(self, account: Account, count: int) -> None:
        """So many events were published; what is more than there was is paid back before the next."""
        if account.tier in self._events.by_tier:
            self._take(self._events, account, count)

    async def pace_message(self, account: Account) -> None:
        """Wait until one more message may be published; the socket is not read meanwhile.

        Raises ``TooManyRequests`` instead when that were longer than ``limits.PACE_S_MAX``.
        """
        if account.tier not in self._requests.by_tier and account.tier not in self._events.by_tier:
            return
        while True:
            waits_ns = [_wait_ns(rate, account) for rate in (self._requests, self._events)]
            wait_s = max(waits_ns) / 1e9
            if not wait_s:
                return
            if wait_s > limits.PACE_S_MAX:
                self._check(self._requests if waits_ns[0] > waits_ns[1] else self._events, account)
            await trio.sleep(wait_s + _ROUNDED_OFF_S)

    def take_message(self, account: Account, events: int) -> None:
        """A message with so many events was published: it counts like a request."""
        self._take(self._requests, account, 1)
        self._take(self._events, account, events)

    def receiving(self, account: Account) -> Receiving:
        """While the block runs a socket or a poll of one of the account's applications is open.

        Raises ``TooManyRequests`` when as many are as may be.
        """
        return Receiving(self, account)

    def enter_receiver(self, account: Account) -> None:
        """One more; ``leave_receiver`` must follow.  Raises ``TooManyRequests``: then it is not counted."""
        self.check_receivers(account)
        self._receivers[account.id] = self._receivers.get(account.id, 0) + 1

    def leave_receiver(self, account: Account) -> None:
        """One less."""
        self._receivers[account.id] -= 1
        if not self._receivers[account.id]:
            del self._receivers[account.id]

    def check_receivers(self, account: Account) -> None:
        """Raise ``TooManyRequests`` as ``receiving`` would; opens nothing."""
        most = self._receivers_max.get(account.tier)
        if most is not None and self._receivers.get(account.id, 0) >= most:
            self._tell("receivers", account)
            raise TooManyRequests(
                f"account {account.name!r} has {most} sockets and polls open, as many as its tier "
                f"{account.tier!r} allows; close some first",
                retry_after_s=limits.RECEIVER_RETRY_S,
            )

    def _check(self, rate: _Rate, account: Account) -> None:
        wait_ns = _wait_ns(rate, account)
        if not wait_ns:
            return
        self._tell(rate.name, account)
        seconds = whole_seconds(wait_ns)
        raise TooManyRequests(
            f"account {account.name!r} {rate.verb} faster than its tier {account.tier!r} allows; "
            f"come back in {seconds} s",
            retry_after_s=seconds,
        )

    def _take(self, rate: _Rate, account: Account, count: int) -> None:
        found = rate.by_tier.get(account.tier)
        if found is not None:
            rate.buckets.take(account.id, found, count, _now_ns())

    def _tell(self, limit: str, account: Account) -> None:
        """Count a refusal, and log the first of a burst."""
        self._metrics.requests_limited.labels(limit).inc()
        if len(self._bursts) >= limits.LIMITED_ACCOUNTS_MAX:
            self._bursts.clear()
        burst = self._bursts.setdefault((account.id, limit), Burst())
        if count := burst.happened(trio.current_time(), limits.LIMITED_LOG_INTERVAL_S):
            log(logging.WARNING, LogEvent.ACCOUNT_LIMITED, account=account.name, limit=limit, refused=count)


class Receiving:
    """Counts a receiver while a block runs.  A class: a generator would take 400 bytes of an idle socket."""

    __slots__ = ("_account", "_budgets")

    def __init__(self, budgets: Budgets, account: Account) -> None:
        self._budgets = budgets
        self._account = account

    def __enter__(self) -> None:
        """Raises ``TooManyRequests``."""
        self._budgets.enter_receiver(self._account)

    def __exit__(self, *_: object) -> None:
        """It is open no more."""
        self._budgets.leave_receiver(self._account)


def _only_limited(found: Mapping[str, Allowance | None]) -> dict[str, Allowance]:
    return {name: each for name, each in found.items() if each is not None}


def _wait_ns(rate: _Rate, account: Account) -> int:
    found = rate.by_tier.get(account.tier)
    return 0 if found is None else rate.buckets.wait_ns(account.id, found, _now_ns())


def _now_ns() -> int:
    return int(trio.current_time() * 1e9)
