"""Changes of what applications subscribe to, and what their gateways must know of it.

A change is committed to the registry first, then patched into the router without an
``await`` in between.

A gateway that executes commands observes at the device what somebody subscribed to:

- A manual subscription that nobody else holds asks it to begin, by a device request whose
  answer is the application's async response; when the device refuses, the subscription is
  taken back.
- For what pre-subscriptions choose, and what else is subscribed, it gets a hint when it tells of
  a device: a request without an id, which it need not answer.
- When the last subscription to a resource goes, it gets a hint to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from dispatcher import limits
from dispatcher.core import presubscriptions
from dispatcher.core.devices import check_subscribable
from dispatcher.core.routing import Router
from dispatcher.model import Application, Device, Presubscription, Subscription, WantedRequest
from dispatcher.registry.interface import Registry
from dispatcher.runtime.device_requests import DeviceRequests
from dispatcher.runtime.devices import Devices
from dispatcher.runtime.gateways import Gateways, GatewaySocket

OBSERVE_METHOD = "GET"  # in CoAP, observing is a GET with an option


def _whole() -> trio.CancelScope:
    """Commit and patch belong together: a caller that is cancelled between them would leave
    the router behind the registry.  The wait is one local transaction."""
    return trio.CancelScope(shield=True)


class Subscriptions:
    """Manual subscriptions and pre-subscriptions of all applications."""

    def __init__(
        self,
        *,
        registry: Registry,
        router: Router,
        devices: Devices,
        requests: DeviceRequests,
        gateways: Gateways,
        new_async_id: Callable[[], str],
    ) -> None:
        self._registry = registry
        self._router = router
        self._devices = devices
        self._requests = requests
        self._gateways = gateways
        self._new_async_id = new_async_id

    # --- manual -----------------------------------------------------------------------

    async def subscribe(self, application: Application, ep: str, path: str) -> str | None:
        """Add a manual subscription; adding it twice is once.

        Returns the async-id of the answer that will come, when the gateway must observe first.
        Raises ``NotFound`` for what is known not to exist, ``ValidationError`` for names that no
        device can have, ``TooManyRequests`` at the account's bound, and ``DeviceRequestRefused`` when
        the gateway must be asked and cannot be.
        """
        account_id = application.account_id
        async with self._devices.settled():
            device = await self._registry.device(account_id, ep)
            check_subscribable(device, ep, path)
            if path in self._router.subscribed_paths(account_id, application.id, ep):
                return None
            wanted = self._observation(device, path)
            if device is not None and wanted is not None:
                self._requests.check_room(device, wanted)
            with _whole():
                await self._add(application, Subscription(application.id, ep, path))
                if device is not None and wanted is not None:
                    await self._observe(application, device, wanted)
        return None if wanted is None else wanted.async_id

    async def unsubscribe(
        self, application: Application, ep: str | None = None, path: str | None = None
    ) -> int:
        """Remove one resource's, one device's or all manual subscriptions; return how many."""
        with _whole():
            removed = await self._registry.remove_subscriptions(application.id, ep, path)
            for subscription in removed:
                self._router.remove_subscription(application.account_id, subscription)
        await self._end_observations(application.account_id, removed)
        return len(removed)

    # --- pre-subscriptions ------------------------------------------------------------

    async def set_presubscriptions(
        self, application: Application, entries: Sequence[Presubscription]
    ) -> None:
        """Replace the whole set.  Raises ``ValidationError`` over the bounds of the notification API."""
        presubscriptions.check(entries)
        with _whole():
            await self._registry.set_presubscriptions(application.id, entries)
            self._router.set_presubscriptions(application.account_id, application.id, entries)

    # --- gateways ---------------------------------------------------------------------

    async def hint(self, socket: GatewaySocket, ep: str) -> None:
        """Tell a gateway that told of a device what to observe there."""
        assert socket.key.account_id is not None
        account_id = socket.key.account_id
        if not self._router.may_want(account_id, ep):
            return
        device = await self._devices.find(account_id, ep)
        if device is None:
            return
        paths = [resource.path for resource in device.resources if resource.obs is not False]
        await self._gateways.hint(
            socket, ep, self._router.wanted_paths(account_id, ep, device.ept, paths), observe=True
        )

    async def _add(self, application: Application, subscription: Subscription) -> None:
        await self._registry.add_subscription(subscription, limits.SUBSCRIPTIONS_PER_ACCOUNT_MAX)
        self._router.add_subscription(application.account_id, subscription)

    async def _observe(self, application: Application, device: Device, wanted: WantedRequest) -> None:
        try:
            await self._requests.add(application, device, wanted)
        except BaseException:  # nobody will observe it: who tries again must not find it subscribed
            subscription = Subscription(application.id, device.ep, wanted.uri)
            self._devices.note_refused(device.account_id, subscription)
            raise

    def _observation(self, device: Device | None, path: str) -> WantedRequest | None:
        """The request to observe a resource, when its gateway has to be asked."""
        if (
            device is None
            or not self._requests.can_ask(device)
            or (
                self._router.has_manual(device.account_id, device.ep, path)
                and not self._requests.is_observing(device, path)
            )
        ):
            return None
        return WantedRequest(async_id=self._new_async_id(), method=OBSERVE_METHOD, uri=path, observe=True)

    async def _end_observations(self, account_id: int, removed: Sequence[Subscription]) -> None:
        """Tell gateways what nobody wants any more, one message for each device."""
        unwanted: dict[str, list[str]] = {}
        for subscription in removed:
            if not self._router.is_wanted(account_id, subscription.ep, subscription.path):
                unwanted.setdefault(subscription.ep, []).append(subscription.path)
        for ep, paths in unwanted.items():
            device = await self._devices.find(account_id, ep)
            if device is None or device.is_gone:
                continue
            socket = self._gateways.socket_for((account_id, ep), device.gateway_id)
            if socket is not None:
                await self._gateways.hint(socket, ep, paths, observe=False)
