"""The test call that a callback must answer before it is registered."""

from __future__ import annotations

import trio

from dispatcher import limits
from dispatcher.core.callback_rules import CallbackTarget
from dispatcher.deliver.callback_body import RequestBody
from dispatcher.deliver.callback_connection import CallbackConnection, PieceBuffers
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import DeliveryFailed, FailureClass

_PROBE = b"{}"
_WANTED = frozenset({200, 204})


class VerificationFailed(Exception):
    """The callback did not answer as it must.

    The message is what whoever registers it may know: the class of the failure
    ("dns", "timeout", "address not allowed", "status 503") and, for TLS, what is wrong with
    it ("tls: its certificate has expired"), never the target's words.
    """

    def __init__(self, failure: FailureClass, *, status: int | None = None, reason: str = "") -> None:
        super().__init__(f"{failure}{f' {status}' if status else ''}{f': {reason}' if reason else ''}")
        self.failure = failure
        self.status = status


async def verify_callback(
    target: CallbackTarget,
    dialer: Dialer,
    timeout_s: float = limits.VERIFICATION_TIMEOUT_S,
    body: RequestBody | None = None,
) -> None:
    """PUT ``{}`` with the caller's headers, on a connection of its own; 200 or 204 is wanted.

    ``body`` is a ``Probe`` in the envelope that deliveries will have; None: without one.
    ``timeout_s`` holds for all of it.  Raises ``VerificationFailed``.
    """
    try:
        with trio.fail_after(timeout_s):
            status = await ask_once(target, dialer, body or RequestBody(Probe()))
    except trio.TooSlowError:
        raise VerificationFailed(FailureClass.TIMEOUT) from None
    except DeliveryFailed as failed:
        # Other classes' details stay here: they would tell how the network inside is laid out.
        reason = failed.detail if failed.failure is FailureClass.TLS else ""
        raise VerificationFailed(failed.failure, reason=reason) from None
    if status not in _WANTED:
        raise VerificationFailed(FailureClass.STATUS, status=status)


async def ask_once(target: CallbackTarget, dialer: Dialer, body: RequestBody) -> int:
    """One request on a connection of its own, and the status of its answer.

    Has no time limit of its own.  Raises ``DeliveryFailed``.  Cancellation leaves no socket.
    """
    connection = CallbackConnection(await dialer.dial(target), PieceBuffers())
    try:
        answer = await connection.put(target, body)
    finally:
        await connection.aclose()
    return answer.status


class Text:
    """A message that is in memory as a whole."""

    def __init__(self, content: bytes) -> None:
        self.bytes_count = len(content)
        self._content = content
        self._at = 0

    async def read_into(self, buffer: bytearray, offset: int) -> int:
        """The next bytes, as many as find room."""
        piece = self._content[self._at :][: len(buffer) - offset]
        buffer[offset : offset + len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]:
        """Leave it to others."""
        return 0, 0, filled, unread

    async def rewind(self) -> None:
        """Start over."""
        self._at = 0


class Probe(Text):
    """An empty notification message."""

    def __init__(self) -> None:
        super().__init__(_PROBE)
