"""Who there is in a run: accounts, their applications and gateways, and the keys of each."""

from __future__ import annotations

from random import Random

from simulation.application import Application
from simulation.callback_application import CallbackApplication
from simulation.http_client import HttpClient
from simulation.machine import Machine
from simulation.network import Host
from simulation.promises import Registered
from simulation.publishers import Lane, Marks
from simulation.socket_application import SocketApplication

from dispatcher.core.access import KEY_ID_RANDOM_BYTES, KEY_RANDOM_BYTES, digest, make_key, make_key_id
from dispatcher.model import AccessKey, Role

OURS, STRANGERS = "ours", "strangers"


class Tenants:
    """They are in the registry before the dispatcher first starts, and have no channel yet."""

    def __init__(self, machine: Machine) -> None:
        self.applications: list[Application] = []  # those of the story first
        self.lanes: list[Lane] = []
        self._machine = machine
        self._marks = Marks()

    async def move_in(self) -> None:
        """Make all of them."""
        story = self._machine.story
        kinds = [CallbackApplication] * story.callbacks + [SocketApplication] * story.sockets
        await self._add_account(OURS, kinds, story.lanes)
        if story.has_stranger:
            await self._add_account(STRANGERS, [kinds[0]], 1)

    async def _add_account(self, name: str, kinds: list[type[Application]], lanes: int) -> None:
        account = await self._machine.registry.ensure_account(name, "commercial")
        for number, kind in enumerate(kinds):
            await self._add_application(account.id, name, kind, number)
        key = await self._add_key(Role.GATEWAY, account.id, None)
        for number in range(lanes):
            self._add_lane(f"{name}-lane{number}", name, key)

    async def _add_application(
        self, account_id: int, account: str, kind: type[Application], number: int
    ) -> None:
        machine = self._machine
        name = f"{account}-{kind.channel}{number}"
        made = await machine.registry.create_application(account_id, name, 0)
        key = await self._add_key(Role.APPLICATION, account_id, made.id)
        registered = machine.promises.applications[made.id] = Registered(name, account)
        address = f"11.0.{account_id}.{number + 1}"
        machine.network.names[f"{name}.example"] = address
        host = Host(machine.network, address)
        dice = Random(f"{machine.story.seed}/{name}")
        self.applications.append(kind(registered, host, key, dice, machine.promises, machine.chronicle))

    def _add_lane(self, name: str, account: str, key: str) -> None:
        machine = self._machine
        client = HttpClient(Host(machine.network, name), key)
        dice = Random(f"{machine.story.seed}/{name}")
        habits = machine.story.habits
        lane = Lane(name, account, client, habits, dice, self._marks, machine.promises, machine.chronicle)
        self.lanes.append(lane)

    async def _add_key(self, role: Role, account_id: int, application_id: int | None) -> str:
        machine = self._machine
        text = make_key(machine.random_bytes(KEY_RANDOM_BYTES))
        await machine.registry.add_key(
            AccessKey(
                id=make_key_id(machine.random_bytes(KEY_ID_RANDOM_BYTES)),
                role=role,
                digest=digest(machine.secret, text),
                account_id=account_id,
                application_id=application_id,
            )
        )
        return text
