"""Delivers device events to applications, in order, at least once, or names their absence.

    async with dispatcher.open_dispatcher() as hub:
        account = await hub.ensure_account()
        application = await hub.ensure_application(account, "greenhouse")
        async with hub.consume(application) as batches:
            hub.publish(application, dispatcher.Notification("dev-1", "/3303/0/5700", b"21.5"))
            async for batch in batches:
                print(batch.messages)
                batch.ack()

The names below are the whole interface; everything else may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dispatcher.config import CallbackSettings, ServerSettings, Settings, StorageSettings, TierSettings
from dispatcher.config_sources import load as load_settings
from dispatcher.errors import (
    BadRequest,
    ChannelGone,
    ConfigError,
    Conflict,
    DataFolderError,
    DispatcherError,
    FieldError,
    MemoryFull,
    NotFound,
    QueueFull,
    TooManyRequests,
    ValidationError,
)
from dispatcher.model import (
    AccessKey,
    Account,
    Application,
    AsyncResponse,
    Deregistration,
    Durability,
    Event,
    Notification,
    Position,
    Presubscription,
    Registration,
    RegistrationExpired,
    RegistrationUpdate,
    Resource,
    Role,
    Serialization,
)

if TYPE_CHECKING:
    from dispatcher.http.server import Server, open_listeners
    from dispatcher.http.serving import serve_http
    from dispatcher.queue.interface import ChannelStats
    from dispatcher.runtime.app import open_dispatcher
    from dispatcher.runtime.consumer import ConsumedBatch, Consumer
    from dispatcher.runtime.hub import CreatedKey, Hub, Prepared
    from dispatcher.runtime.publishing import Receipt
    from dispatcher.runtime.world import World

__all__ = [
    "AccessKey",
    "Account",
    "Application",
    "AsyncResponse",
    "BadRequest",
    "CallbackSettings",
    "ChannelGone",
    "ChannelStats",
    "ConfigError",
    "Conflict",
    "ConsumedBatch",
    "Consumer",
    "CreatedKey",
    "DataFolderError",
    "Deregistration",
    "DispatcherError",
    "Durability",
    "Event",
    "FieldError",
    "Hub",
    "MemoryFull",
    "NotFound",
    "Notification",
    "Position",
    "Prepared",
    "Presubscription",
    "QueueFull",
    "Receipt",
    "Registration",
    "RegistrationExpired",
    "RegistrationUpdate",
    "Resource",
    "Role",
    "Serialization",
    "Server",
    "ServerSettings",
    "Settings",
    "StorageSettings",
    "TierSettings",
    "TooManyRequests",
    "ValidationError",
    "World",
    "load_settings",
    "open_dispatcher",
    "open_listeners",
    "serve_http",
]

_LATE = {
    "ChannelStats": "dispatcher.queue.interface",
    "ConsumedBatch": "dispatcher.runtime.consumer",
    "Consumer": "dispatcher.runtime.consumer",
    "CreatedKey": "dispatcher.runtime.hub",
    "Hub": "dispatcher.runtime.hub",
    "Prepared": "dispatcher.runtime.hub",
    "Receipt": "dispatcher.runtime.publishing",
    "Server": "dispatcher.http.server",
    "World": "dispatcher.runtime.world",
    "open_dispatcher": "dispatcher.runtime.app",
    "open_listeners": "dispatcher.http.server",
    "serve_http": "dispatcher.http.serving",
}


if not TYPE_CHECKING:  # a type checker knows each name, and that there is no other

    def __getattr__(name: str) -> Any:
        """What takes the whole dispatcher is imported when it is asked for; most commands never do."""
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_LATE[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
