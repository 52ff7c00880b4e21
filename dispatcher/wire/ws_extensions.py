"""``Sec-WebSocket-Extensions`` and the terms of permessage-deflate (RFC 6455, 9.1; RFC 7692), as values.

A client offers, we take one of its offers or none.  What is taken says for both
directions that no message refers to the one before it (*no context takeover*), whether
the client asked for that or not: then nothing of a compressor is kept between messages,
so an idle socket holds none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

NAME = "permessage-deflate"
WINDOW_BITS_MAX = 15  # 32 KiB

_WINDOW_BITS = {str(bits): bits for bits in range(8, WINDOW_BITS_MAX + 1)}  # no leading zeros
_SERVED_WINDOW_BITS_MIN = 9  # zlib writes no raw stream whose references go back 256 bytes at most
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_ITEM = re.compile(rf"[ \t]*(?P<name>{_TOKEN})[ \t]*")
_PARAMETER = re.compile(
    rf';[ \t]*(?P<name>{_TOKEN})[ \t]*(?:=[ \t]*(?:(?P<token>{_TOKEN})|"(?P<quoted>(?:[^"\\]|\\.)*)")[ \t]*)?'
)
_EMPTY_ITEMS = re.compile(r"[ \t]*(?:,[ \t]*)*")

Parameters = tuple[tuple[str, str | None], ...]


class ExtensionOffer(msgspec.Struct, frozen=True):
    """One item of the list; a parameter without a value has None."""

    name: str
    parameters: Parameters = ()


class DeflateTerms(msgspec.Struct, frozen=True):
    """What a client and we agreed on."""

    window_bits: int = WINDOW_BITS_MAX  # no reference of ours goes back further than 2 ** this
    is_window_named: bool = False  # the client asked for that window, and must be told that it has it

    def answer(self) -> str:
        """The value of our ``Sec-WebSocket-Extensions``."""
        window = f"; server_max_window_bits={self.window_bits}" if self.is_window_named else ""
        return f"{NAME}; server_no_context_takeover; client_no_context_takeover{window}"


def agree_on_deflate(value: str | None) -> DeflateTerms | None:
    """The terms of the first offer of permessage-deflate that can be served; None when there is none.

    A header that is not a list of extensions offers nothing: the connection is as good
    without, and was always let in.
    """
    try:
        offers = tuple(parse_extensions(value or ""))
    except ValueError:
        return None
    for offer in offers:
        terms = _terms(offer.parameters) if offer.name == NAME else None
        if terms is not None:
            return terms
    return None


def parse_extensions(value: str) -> Iterator[ExtensionOffer]:
    """The items of the list, in order.  Raises ``ValueError`` for what is none; time goes with the length.

    A quoted value must be a token without its quotes (RFC 6455, section 9.1).
    """
    at = _skip_empty(value, 0)
    while at < len(value):
        found = _ITEM.match(value, at)
        if found is None:
            raise ValueError("not an extension")
        at = found.end()
        parameters = []
        while (parameter := _PARAMETER.match(value, at)) is not None:
            parameters.append((parameter["name"], _parameter_value(parameter)))
            at = parameter.end()
        if at < len(value) and value[at] != ",":
            raise ValueError("not a parameter of an extension")
        yield ExtensionOffer(found["name"], tuple(parameters))
        at = _skip_empty(value, at)


def _skip_empty(value: str, at: int) -> int:
    found = _EMPTY_ITEMS.match(value, at)
    assert found is not None
    return found.end()


def _parameter_value(parameter: re.Match[str]) -> str | None:
    if parameter["quoted"] is None:
        return parameter["token"]
    text = re.sub(r"\\(.)", r"\1", parameter["quoted"])
    if re.fullmatch(_TOKEN, text) is None:
        raise ValueError("a quoted value that is not a token")
    return text


def _terms(parameters: Parameters) -> DeflateTerms | None:
    """None for an offer that is to be declined (RFC 7692, section 7.1)."""
    given = dict(parameters)
    if len(given) < len(parameters):
        return None  # one of them twice
    window = _WINDOW_BITS.get(given.get("server_max_window_bits") or str(WINDOW_BITS_MAX), 0)
    for name, value in parameters:
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover":
                is_good = value is None
            case "client_max_window_bits":  # its window may be as large as it likes: nothing of it is kept
                is_good = value is None or value in _WINDOW_BITS
            case "server_max_window_bits":
                is_good = value is not None and window >= _SERVED_WINDOW_BITS_MIN
            case _:
                is_good = False
        if not is_good:
            return None
    return DeflateTerms(window, "server_max_window_bits" in given)
