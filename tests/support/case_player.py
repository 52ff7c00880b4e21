"""Plays a conformance case against a daemon, over real sockets, step by step.

What holds for every case is checked here and not written in each: an answer has an
``X-Request-Id``, no answer holds a key that was not expected in it, no message has a null
in it, and no delivery comes that the case does not expect.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping

import trio
from support.case_document import Case, Message, read_message
from support.case_patterns import (
    Variables,
    check_body,
    check_error,
    check_headers,
    check_no_null,
    check_signature,
    filled,
    is_error_pattern,
)
from support.case_receiver import HANG_UP, CaseReceiver, Delivery
from support.case_socket import CaseSocket
from support.case_step import Step
from support.case_tenants import Tenancy
from support.daemon import Daemon
from support.http_wire import WireClient, WireResponse

WAIT_S = 15.0
NOTHING_S = 0.3
AGAIN_S = 0.05
AT_LAST = "at last"
SIGNED = "signed with: "  # beside the headers of a callback, and none itself

_NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3: the answer to this nonce


class Failed(Exception):
    """A step did not go as written."""

    def __init__(self, case: Case, step: Step, cause: Exception) -> None:
        where = f"{case.name}.md:{step.line}: {step.kind} {step.name}".rstrip()
        first = cause.exceptions[0] if isinstance(cause, ExceptionGroup) else cause
        super().__init__(f"{where}: {str(first) or repr(first)}")


class _Line:
    """One connection: HTTP at first, a WebSocket after a 101."""

    def __init__(self, client: WireClient) -> None:
        self.client = client
        self.method = ""
        self.request = b""
        self.socket: CaseSocket | None = None


class Player:
    """The state of one case: its variables, its connections, its receiver."""

    def __init__(self, daemon: Daemon, tenancy: Tenancy, receiver: CaseReceiver) -> None:
        self._daemon = daemon
        self._tenancy = tenancy
        self._receiver = receiver
        self._variables: Variables = {
            **tenancy.keys,
            "APPLICATION": "mine",
            "CALLBACK": receiver.url,
            "NONCE": _NONCE,
        }
        self._lines: dict[str, _Line] = {}
        self._delivery: Delivery | None = None
        self._last_body = b""
        self._actions: Mapping[str, Callable[[Step], Awaitable[None]]] = {
            "request": self._request,
            "answer": self._answer,
            "callback": self._callback,
            "reply": self._reply,
            "frames": self._frames,
            "nothing": self._nothing,
            "cut": self._cut,
            "daemon": self._tell_daemon,
        }

    async def play(self, case: Case) -> None:
        """Play every step.  Raises ``Failed``."""
        try:
            for step in case.steps:
                try:
                    with trio.fail_after(WAIT_S + case.takes_s):
                        await self._actions[step.kind](step)
                except Exception as error:
                    raise Failed(case, step, error) from error
        finally:
            for line in self._lines.values():
                await trio.aclose_forcefully(line.client.stream)
        assert self._receiver.waiting == 0, f"{case.name}: a delivery came that nobody expected"

    # --- the steps ------------------------------------------------------------------------

    async def _request(self, step: Step) -> None:
        message = read_message(filled(step.text, self._variables))
        line = await self._line_for_request(step.name)
        line.method = message.first.partition(" ")[0]
        first = message.first if " HTTP/" in message.first else f"{message.first} HTTP/1.1"
        line.request = _written(first, message)
        await line.client.send(line.request)

    async def _answer(self, step: Step) -> None:
        line = self._lines[step.name]
        text = filled(step.text, self._variables)
        wanted = read_message(text)
        found = await line.client.response(is_head=line.method == "HEAD")
        status, _, reason = wanted.first.partition(" ")
        while reason == AT_LAST and found.status != int(status):
            await trio.sleep(AGAIN_S)
            found = await line.client.ask(line.request)
        assert found.status == int(status), f"{found.status} {found.headers} {found.body!r}"
        assert reason in ("", AT_LAST, found.reason), found.reason
        self._check_no_key(found, text)
        check_headers(wanted.headers, found.headers, self._variables)
        assert found.status == 101 or "x-request-id" in found.headers
        if wanted.body is not None and is_error_pattern(wanted.body):
            check_error(wanted.body, found)
        elif wanted.body is not None:
            check_body(wanted.body, found.body, self._variables)
        if found.status == 101:
            assert found.headers["sec-websocket-accept"] == _ACCEPT
            extensions = found.headers.get("sec-websocket-extensions")
            line.socket = CaseSocket(line.client.stream, bytes(line.client.received), extensions)

    async def _callback(self, step: Step) -> None:
        text = filled(step.text, self._variables)
        wanted = read_message(text)
        self._delivery = delivery = await self._receiver.next()
        assert delivery.line == f"{wanted.first} HTTP/1.1", delivery.line
        message = delivery.message
        signed = [line.partition(": ")[2] for line in wanted.headers if line.startswith(SIGNED)]
        for secret in signed:
            check_signature(secret, delivery.headers, message)
        headers = [line for line in wanted.headers if not line.startswith(SIGNED)]
        check_headers(headers, delivery.headers, self._variables)
        assert all(key not in str(delivery.headers) for key in self._tenancy.keys.values())
        if wanted.body == "<the same bytes>":
            assert delivery.body == self._last_body
        elif wanted.body is not None:
            check_no_null(message)
            check_body(wanted.body, message, self._variables)
        self._last_body = delivery.body

    async def _reply(self, step: Step) -> None:
        assert self._delivery is not None, "a reply answers a callback"
        message = read_message(filled(step.text, self._variables))
        if message.first == "hang up":
            self._delivery.reply(HANG_UP)
            return
        self._delivery.reply(_written(f"HTTP/1.1 {message.first} Whatever", message))

    async def _frames(self, step: Step) -> None:
        socket = self._lines[step.name].socket
        assert socket is not None, "the connection is no WebSocket"
        for line in step.text.replace("\n  ", " ").splitlines():
            await socket.play(filled(line, self._variables), self._variables)

    async def _nothing(self, step: Step) -> None:
        """What must not come, one in each line: ``callback``, ``frames NAME``, ``answer NAME``."""
        watched = [line.partition(" ") for line in step.text.splitlines()]
        with trio.move_on_after(NOTHING_S):
            async with trio.open_nursery() as nursery:
                for kind, _, name in watched:
                    nursery.start_soon(self._refuse, kind, name)

    async def _refuse(self, kind: str, name: str) -> None:
        if kind == "callback":
            delivery = await self._receiver.next()
            raise AssertionError(f"a callback came: {delivery.body!r}")
        line = self._lines[name]
        if kind == "answer":
            raise AssertionError(f"an answer came: {await line.client.response()}")
        assert kind == "frames", f"{kind!r} cannot be waited for"
        assert line.socket is not None
        raise AssertionError(f"it came: {await line.socket.next_but_pings()}")

    async def _cut(self, step: Step) -> None:
        """The client vanishes, without a word."""
        await trio.aclose_forcefully(self._lines.pop(step.name).client.stream)

    async def _tell_daemon(self, step: Step) -> None:
        """``revoke KEY``, ``files COUNT`` or ``stop``."""
        order, _, rest = step.text.partition(" ")
        match order:
            case "stop":
                self._daemon.send_signal(signal.SIGTERM)
            case "files":
                self._daemon.limit_files(None if rest == "of any size" else int(rest))
            case "revoke":
                await self._daemon.revoke_id(self._tenancy.ids[rest.strip("{}")])
            case _:
                raise AssertionError(f"{order!r} is no order")

    # --- their parts ----------------------------------------------------------------------

    async def _line_for_request(self, name: str) -> _Line:
        """The named connection, if it is open; without a name a new one each time."""
        line = self._lines.get(name)
        if line is not None and name and line.socket is None:
            return line
        if line is not None:
            await trio.aclose_forcefully(line.client.stream)
        line = self._lines[name] = _Line(
            WireClient(await trio.open_tcp_stream("127.0.0.1", self._daemon.port))
        )
        return line

    def _check_no_key(self, found: WireResponse, wanted: str) -> None:
        said = f"{found.headers} {found.body.decode('latin-1')}"
        for variable, key in self._tenancy.keys.items():
            assert key not in said or key in wanted, f"the answer says {variable}"


def _written(first: str, message: Message) -> bytes:
    """A head and a body as bytes, with ``Host`` and ``Content-Length`` when they were left out."""
    body = (message.body or "").encode()
    given = {line.partition(":")[0].lower() for line in message.headers}
    lines = [first, *message.headers]
    if first.endswith("HTTP/1.1") and "host" not in given:
        lines.insert(1, "Host: dispatcher")
    takes_body = not first.startswith(("GET ", "DELETE ", "HEAD ", "HTTP/1.1 204"))
    if "content-length" not in given and (body or takes_body):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
