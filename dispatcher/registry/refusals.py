"""What a registry says when it refuses, in the same words whichever keeps it."""

from __future__ import annotations

from dispatcher.errors import Conflict, NotFound, TooManyRequests
from dispatcher.model import Account


def no_account(account_id: int) -> NotFound:
    """An account that does not exist was named."""
    return NotFound(f"there is no account {account_id}")


def no_application(application_id: int) -> NotFound:
    """An application that does not exist, or is another account's, was named."""
    return NotFound(f"there is no application {application_id}")


def no_channel(channel_id: int) -> NotFound:
    """A channel that does not exist was named."""
    return NotFound(f"there is no channel {channel_id}")


def application_exists(account: Account, name: str) -> Conflict:
    """The name is taken in this account."""
    return Conflict(f"account {account.name!r} has an application {name!r} already; choose another name")


def too_many_applications(account: Account, applications_max: int) -> TooManyRequests:
    """The account is at its tier's bound."""
    return TooManyRequests(
        f"account {account.name!r} has {applications_max} applications, the most its tier "
        f"{account.tier!r} allows; name one of them, or raise applications_max of the tier"
    )


def key_exists(key_id: str) -> Conflict:
    """The id or the digest was given before, be it to a key revoked since."""
    return Conflict(f"the key {key_id} exists already; make a new one")


def channel_exists() -> Conflict:
    """The application has a channel, of whatever type."""
    return Conflict("the application has a channel already; delete it first")


def too_many_subscriptions(account: Account, account_max: int) -> TooManyRequests:
    """The account is at the bound of manual subscriptions."""
    return TooManyRequests(
        f"account {account.name!r} has {account_max} subscriptions, the most there may be; remove some first"
    )
