"""Applications: they register over ``/v2``, and receive in all the ways that receivers have.

What an application has seen is what arrived whole; what it confirms it tells the promises
before it tells the dispatcher.  A receiver that lies confirms and forgets: nobody can know.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
import trio
from simulation.chronicle import Chronicle
from simulation.events import Shown, read
from simulation.http_client import HttpClient, NoAnswer
from simulation.network import Host
from simulation.promises import Place, Promises, Registered

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
_CFG = {"include_uid": True, "include_original_ep": True, "deregistrations_as_object": True}


class Application:
    """What all applications do: register, and keep on until it is done."""

    channel = ""  # in paths

    def __init__(
        self,
        registered: Registered,
        host: Host,
        key: str,
        dice: Random,
        promises: Promises,
        chronicle: Chronicle,
    ) -> None:
        self.registered = registered
        self.name = registered.name
        self.host = host
        self.key = key
        self.mode = "healthy"
        self.dice = dice
        self.promises = promises
        self.chronicle = chronicle
        self.mixed_kinds: bool | None = dice.choice((None, True, False))
        self._client = HttpClient(host, key)
        self._wants_anew = self._wants_again = False

    async def run(self) -> None:
        """Register, and receive until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.receive)
            await self._insist("PUT", "/v2/subscriptions", [{"endpoint-name": "*"}])
            while True:
                await self._insist("PUT", f"/v2/notification/{self.channel}", self.registration())
                if self.registered.since_s is None:
                    self.registered.since_s = trio.current_time()
                await self._until_it_changes_its_mind()
                if self._wants_anew:
                    await self._delete()
                self._wants_anew = self._wants_again = False

    def register_again(self) -> None:
        """Put the same registration soon: it keeps its queue."""
        self._wants_again = True

    def register_anew(self) -> None:
        """Delete the channel soon, with all that is in it, and make another."""
        self._wants_anew = True

    async def _until_it_changes_its_mind(self) -> None:
        while not self._wants_anew and not self._wants_again:  # noqa: ASYNC110  the clock is a mock
            await trio.sleep(1.0)

    async def _delete(self) -> None:
        self.registered.since_s = None
        if self.registered.model is not None:
            self.registered.model.is_gone = True
        await self._insist("DELETE", f"/v2/notification/{self.channel}", None)

    async def _insist(self, method: str, path: str, body: object) -> None:
        """Ask until it is done."""
        data = b"" if body is None else msgspec.json.encode(body)
        while True:
            try:
                answer = await self._client.request(
                    method, path, data, headers={"Content-Type": "application/json"}
                )
            except NoAnswer:
                self.chronicle.note(f"{self.name}: no answer to {method} {path}")
            else:
                self.chronicle.note(f"{self.name}: {answer.status} to {method} {path}")
                if 200 <= answer.status <= 299 or (method == "DELETE" and answer.status == 404):
                    return
            await trio.sleep(self.dice.uniform(1.0, 10.0))

    def registration(self) -> dict[str, object]:
        """The body of its registration."""
        cfg = dict(_CFG) if self.mixed_kinds is None else {**_CFG, "mixed_kinds": self.mixed_kinds}
        return {"serialization": {"type": "v2", "cfg": cfg}}

    async def receive(self) -> None:
        """Receive events until cancelled."""
        raise NotImplementedError

    def take(self, message: bytes, how: str) -> tuple[Sequence[Shown], list[Place]]:
        """A whole message is here."""
        events = read(message)
        self.chronicle.note(f"{self.name}: {[event.number for event in events]} {how}")
        return events, self.promises.shown(self.registered, events)
