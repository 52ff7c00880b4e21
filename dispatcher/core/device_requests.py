"""Which device requests are accepted, and with what lifetime and retries.  Pure."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.core.devices import knows_path
from dispatcher.errors import DeviceRequestRefused, RefusalReason
from dispatcher.model import Application, Device, DeviceRequest, WantedRequest

ASYNC_ID_RANDOM_BYTES = 16  # of ids that the dispatcher makes up, in hexadecimal


def check_device(device: Device | None, uri: str) -> Device:
    """The device, when it has what ``uri`` names.  Raises ``DeviceRequestRefused``."""
    if device is None or device.is_gone:
        raise DeviceRequestRefused(
            RefusalReason.DEVICE_NOT_FOUND,
            "no device of this name is registered",
            is_gone=device is not None,
        )
    path = uri.partition("?")[0]
    if not _is_resource(path):
        raise DeviceRequestRefused(
            RefusalReason.RESOURCE_NOT_FOUND,
            f"uri: want a path of 1 to {limits.PATH_CHARS_MAX} characters, such as /3303/0/5700",
        )
    if not knows_path(device, path):
        raise DeviceRequestRefused(
            RefusalReason.URI_PATH_DOES_NOT_EXISTS, "the device has registered nothing there"
        )
    return device


def check_connected(device: Device, *, is_away: bool) -> None:
    """Raise ``DeviceRequestRefused`` when nobody can reach the device, and nobody is waited for.

    A device in queue mode sleeps most of the time: for it requests always wait.
    """
    if is_away and not device.q:
        raise DeviceRequestRefused(
            RefusalReason.DEVICE_NOT_CONNECTED, "the device's gateway has no socket open"
        )


def check_same(waiting: DeviceRequest, wanted: WantedRequest) -> None:
    """Raise ``DeviceRequestRefused`` unless what is wanted is what waits under this id."""
    if (wanted.method, wanted.uri, wanted.payload) != (waiting.method, waiting.uri, waiting.payload):
        raise DeviceRequestRefused(
            RefusalReason.MALFORMED_ASYNC_ID, "another request with this async-id waits for the device"
        )


def make_request(
    application: Application, device: Device, wanted: WantedRequest, wire_id: str, now_unix_ms: int
) -> DeviceRequest:
    """A request as it is kept; what was left open goes by the device's mode."""
    retry = limits.DEVICE_REQUEST_QUEUE_MODE_RETRY if device.q else 0
    expiry_s = limits.DEVICE_REQUEST_QUEUE_MODE_EXPIRY_S if device.q else limits.DEVICE_REQUEST_EXPIRY_S
    return DeviceRequest(
        id=0,
        account_id=application.account_id,
        application_id=application.id,
        ep=device.ep,
        async_id=wanted.async_id,
        wire_id=wire_id,
        method=wanted.method,
        uri=wanted.uri,
        accept=wanted.accept,
        content_type=wanted.content_type,
        payload=wanted.payload,
        observe=wanted.observe,
        is_silent=wanted.is_silent,
        retry=retry if wanted.retry is None else wanted.retry,
        accepted_unix_ms=now_unix_ms,
        expires_unix_ms=now_unix_ms + 1000 * (expiry_s if wanted.expiry_s is None else wanted.expiry_s),
    )


def _is_resource(path: str) -> bool:
    return 1 < len(path) <= limits.PATH_CHARS_MAX and path.startswith("/") and path.isprintable()
