"""Buffers that bodies are received into, used again from request to request."""

from __future__ import annotations

from dispatcher import limits


class BodyBuffers:
    """At most ``limits.BODY_BUFFERS_MAX``, made when they are wanted, each of ``limits.BODY_BUFFER_BYTES``.

    So few that who announces bodies and sends none holds nothing up: the bodies of others
    are then received in pieces.
    """

    def __init__(self) -> None:
        self._idle: list[bytearray] = []
        self._taken = 0

    def __repr__(self) -> str:
        return f"<BodyBuffers idle={len(self._idle)} taken={self._taken}>"

    def take(self, bytes_count: int) -> bytearray | None:
        """A buffer for a body of this length, its contents anything; None: receive it in pieces."""
        if not limits.BODY_BUFFER_WORTH_BYTES <= bytes_count <= limits.BODY_BUFFER_BYTES:
            return None
        if self._taken == limits.BODY_BUFFERS_MAX:
            return None
        self._taken += 1
        return self._idle.pop() if self._idle else bytearray(limits.BODY_BUFFER_BYTES)

    def give_back(self, buffer: bytearray) -> None:
        """Nobody looks at it any more."""
        self._taken -= 1
        self._idle.append(buffer)
