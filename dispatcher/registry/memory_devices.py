"""The memory registry's directory of devices."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.core import devices
from dispatcher.model import Device, DeviceReport
from dispatcher.registry.interface import DueDevices


class MemoryDevices:
    """All accounts' devices, by account and ep."""

    def __init__(self) -> None:
        self._devices: dict[int, dict[str, Device]] = {}

    def keep(self, report: DeviceReport, account_max: int) -> None:
        """Take in what a life-cycle event tells."""
        known = self._devices.setdefault(report.account_id, {})
        ep = report.change.ep
        if ep not in known and len(known) >= account_max:
            del known[min(known.values(), key=lambda d: (not d.is_gone, d.heard_unix_ms, d.ep)).ep]
        known[ep] = devices.after(report, known.get(ep))

    def find(self, account_id: int, ep: str) -> Device | None:
        """A device, gone ones too."""
        return self._devices.get(account_id, {}).get(ep)

    def types(self) -> list[tuple[int, str, str]]:
        """The types of all devices that have one, the one heard of last at the end."""
        typed = [d for known in self._devices.values() for d in known.values() if d.ept and not d.is_gone]
        typed.sort(key=lambda device: device.heard_unix_ms)
        return [(d.account_id, d.ep, d.ept) for d in typed[-limits.DEVICE_TYPES_MAX :] if d.ept]

    def due(self, now_unix_ms: int, count_max: int) -> DueDevices:
        """The devices whose registration has run out, and when the next one does."""
        times = sorted(
            (device.expires_unix_ms, device.account_id, device.ep)
            for known in self._devices.values()
            for device in known.values()
            if device.expires_unix_ms is not None
        )
        due = [self._devices[account_id][ep] for at, account_id, ep in times if at <= now_unix_ms]
        return DueDevices(
            devices=tuple(due[:count_max]),
            next_unix_ms=next((at for at, _, _ in times if at > now_unix_ms), None),
        )
