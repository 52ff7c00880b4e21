"""What an account's directory says of a device after each of its life-cycle events.  Pure."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.errors import NotFound, ValidationError
from dispatcher.model import Device, DeviceReport, Kind, Registration, RegistrationUpdate


def after(report: DeviceReport, known: Device | None) -> Device:
    """The device as it stands in the directory from this event on.

    A registration says all there is to say.  An update changes what it names and
    refreshes the rest; of a device that was gone or not known it is the first thing heard.
    """
    told = report.change.told
    if told is None:
        return _gone(report, known)
    if report.change.kind is Kind.REG_UPDATE and known is not None and not known.is_gone:
        return _updated(report, told, known)
    return Device(
        account_id=report.account_id,
        ep=told.ep,
        gateway_id=report.gateway_id,
        original_ep=told.original_ep,
        ept=told.ept,
        q=bool(told.q),
        resources=told.resources,
        lifetime_s=told.lt or None,
        heard_unix_ms=report.heard_unix_ms,
    )


def knows_path(device: Device, path: str) -> bool:
    """Whether a path leads to something that the device registered.

    What lies above or below a registered path counts: gateways may register objects
    (``/3303``), instances or resources, and applications ask for any of them.  A device
    that registered nothing may have anything.
    """
    return not device.resources or any(
        _is_within(path, resource.path) or _is_within(resource.path, path) for resource in device.resources
    )


def check_subscribable(device: Device | None, ep: str, path: str) -> None:
    """Raise ``NotFound`` for a resource that is known not to exist, ``ValidationError`` for one that cannot.

    A device never heard of may exist: not every gateway registers its devices, and an
    application may come first.
    """
    for name, text, chars_max in ("ep", ep, limits.EP_CHARS_MAX), ("path", path, limits.PATH_CHARS_MAX):
        if len(text) > chars_max:
            raise ValidationError(f"{name}: is longer than {chars_max} characters")
    if device is None:
        return
    if device.is_gone:
        raise NotFound("This device is not registered any more")
    if not knows_path(device, path):
        raise NotFound("This device has no such resource")


def _updated(report: DeviceReport, told: Registration | RegistrationUpdate, known: Device) -> Device:
    return Device(
        account_id=known.account_id,
        ep=known.ep,
        gateway_id=report.gateway_id,
        original_ep=known.original_ep if told.original_ep is None else told.original_ep,
        ept=known.ept if told.ept is None else told.ept,
        q=known.q if told.q is None else told.q,
        resources=told.resources or known.resources,
        lifetime_s=known.lifetime_s if told.lt is None else told.lt or None,
        heard_unix_ms=report.heard_unix_ms,
    )


def _gone(report: DeviceReport, known: Device | None) -> Device:
    return Device(
        account_id=report.account_id,
        ep=report.change.ep,
        gateway_id=report.gateway_id,
        original_ep=None if known is None else known.original_ep,
        heard_unix_ms=report.heard_unix_ms,
        is_gone=True,
    )


def _is_within(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")
