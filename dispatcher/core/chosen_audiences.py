"""Whom pre-subscriptions choose, remembered exactly, and in bounded memory.

Devices that the same entries look at are of one *class*, by name and type:

    "dev-1" ──┐                              ┌── "/3303/0/5700" ──▶ an audience
    "dev-2" ──┼──▶ class: their path patterns ┤
    "dev-3" ──┘                              └── "/3303/0/5701" ──▶ an audience

Both steps are edges of a table (``core.route_table``), added when something is first asked
for.  A device's new type takes its own edge away; a new set of pre-subscriptions begins with
a new table.  While no entry looks at devices, all are of one class, and the table has no
edge for any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from dispatcher.core.presubscriptions import Choosers, DevicePatterns, Matcher, any_matches
from dispatcher.core.route_table import ROOT, RouteTable, name_of, text_of
from dispatcher.errors import MemoryFull
from dispatcher.model import Presubscription

_Class = tuple[tuple[int, DevicePatterns], ...]
"""For each application that may want something of a device: which paths."""

_EVERY_DEVICE = 1


class ChosenAudiences:
    """All pre-subscriptions of one account, and whom they choose."""

    def __init__(self, new_table: Callable[[], RouteTable], edges_max: int) -> None:
        self.presubscriptions: dict[int, tuple[Presubscription, ...]] = {}  # by application
        self.version = 0  # moves with each change
        self.beginnings = 0  # moves when an audience's number may come to stand for another
        self.remembered = 0  # edges that were put into the table, or into those before it
        self._new_table = new_table
        self._edges_max = edges_max
        self._matchers: dict[int, Matcher] = {}
        self._choosers = Choosers()  # the same
        self._lookers = 0  # of these, that look at devices
        self._begin()

    def __bool__(self) -> bool:
        return bool(self._matchers)

    def set(self, application_id: int, entries: tuple[Presubscription, ...]) -> None:
        """Replace an application's set.  Setting the same set again forgets nothing."""
        if entries == self.presubscriptions.get(application_id, ()):
            return
        before = self._matchers.pop(application_id, None)
        if before is not None:
            self._choosers.remove(application_id, before)
            self._lookers -= before.looks_at_devices
        if entries:
            self.presubscriptions[application_id] = entries
            self._matchers[application_id] = after = Matcher(entries)
            self._choosers.add(application_id, after)
            self._lookers += after.looks_at_devices
        else:
            del self.presubscriptions[application_id]
        self.version += 1
        self._begin()

    def forget_device(self, ep: str) -> None:
        """A device's type changed."""
        if len(self.table):
            self.table.remove(ROOT, text_of(ep))

    def make_room(self) -> None:
        """Begin anew when the table is full.  What ``number`` gave before stands for nothing any more."""
        if len(self.table) >= self._edges_max:
            self._begin()

    def start(self) -> int:
        """The node at which the paths of all devices begin; ``ROOT``: each has its own."""
        if self._lookers:
            return ROOT
        if len(self._classes) == _EVERY_DEVICE:
            self._class_number(self._choosers.paths_of("", ""))
        return _EVERY_DEVICE

    def number(self, ep: bytes, path: bytes, ept: Callable[[str], str | None]) -> int:
        """The number of the audience of a resource; ``ept`` tells a device's type when it must be known.

        Remembered as long as the table has room.
        """
        device = self.start() or self.table.get(ROOT, ep)
        if not device:
            name = name_of(ep)
            device = self._class_number(self._choosers.paths_of(name, ept(name)))
            self._remember(ROOT, ep, device)
        number = self.table.get(device, path)
        if not number:
            number = self._audience_number(_wanting(self._classes[device], name_of(path)))
            self._remember(device, path, number)
        return number

    def audience(self, number: int) -> tuple[int, ...]:
        """The applications that ``number`` stands for; of 0 nobody."""
        return self._audiences[number]

    def choose(self, ep: str, ept: str | None, path: str) -> tuple[int, ...]:
        """The audience of a resource of a device that is of this type, whatever is remembered."""
        return _wanting(self._choosers.paths_of(ep, ept), path)

    def _begin(self) -> None:
        """Remember nothing."""
        self.beginnings += 1
        self.table = self._new_table()
        self._audiences: list[tuple[int, ...]] = [()]
        self._audience_numbers: dict[tuple[int, ...], int] = {}
        self._classes: list[_Class] = [()]
        self._class_numbers: dict[_Class, int] = {}

    def _class_number(self, found: _Class) -> int:
        number = self._class_numbers.setdefault(found, len(self._classes))
        if number == len(self._classes):
            self._classes.append(found)
        return number

    def _audience_number(self, applications: tuple[int, ...]) -> int:
        number = self._audience_numbers.setdefault(applications, len(self._audiences))
        if number == len(self._audiences):
            self._audiences.append(applications)
        return number

    def _remember(self, node: int, text: bytes, to: int) -> None:
        if len(self.table) < self._edges_max:
            with suppress(MemoryFull):  # then it is found out again when it is asked for
                self.table.put(node, text, to)
            self.remembered += 1


def _wanting(found: _Class, path: str) -> tuple[int, ...]:
    return tuple(sorted([id_ for id_, patterns in found if any_matches(patterns, path)]))
