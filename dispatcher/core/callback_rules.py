"""What an application may register as its callback: the URL and the headers.

The URL is taken apart here, once, by rules narrower than any URL library's, so
that no two readers can disagree about which host it names; everything later uses
the parts.  Host names are judged when they are dialled; a host that is written as
an address is judged here already, so that the caller hears of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna
import msgspec

from dispatcher import limits
from dispatcher.core.addresses import AddressPolicy, is_address, judge, judge_port
from dispatcher.errors import FieldError, ValidationError

ADDRESS_NOT_ALLOWED = "address not allowed"

_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?]*)(?P<target>.*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_HOST_NAME_CHARS_MAX = 253  # RFC 1035, without the root's dot
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # what inet_aton takes for part of an address
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[ -~]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_OUR_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "keep-alive",
    }
)
_OUR_HEADER_PREFIX = "proxy-"


class CallbackTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how a callback is sent.

    ``host`` is a lower-case ASCII name or an address without brackets; ``target``
    is the path with its query, as it goes into the request line.  Header values and
    the path may be secrets, so neither shows in the ``repr``.
    """

    scheme: str  # "http" or "https"
    host: str
    port: int
    target: str
    host_header: str
    method: str = "PUT"
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"<CallbackTarget {self.scheme}://{self.host_header}>"


def check_registration(
    url: str, headers: Mapping[str, str], policy: AddressPolicy, *, reserved: Collection[str] = ()
) -> CallbackTarget:
    """Read a callback that an application wants to register.

    ``reserved`` are more header names that the dispatcher sets, in lower case.
    Raises ``ValidationError`` with every field that is wrong, among them a port or a
    host written as an address that ``policy`` refuses.
    """
    target = parse_callback(url, headers, reserved=reserved)
    reason = judge_port(target.port, policy)
    if reason is None and is_address(target.host):
        reason = judge(target.host, policy)
    if reason is not None:
        raise _invalid([FieldError(name="url", message=f"{ADDRESS_NOT_ALLOWED} ({reason})")])
    return target


def parse_callback(url: str, headers: Mapping[str, str], *, reserved: Collection[str] = ()) -> CallbackTarget:
    """Read a callback without asking whether its address is allowed: one registered before.

    Raises ``ValidationError`` with every field that is wrong.
    """
    chars = len(url) + sum(len(name) + len(value) for name, value in headers.items())
    if chars > limits.CALLBACK_CHARS_MAX:
        message = (
            f"url, header names and header values have {chars} characters together; "
            f"at most {limits.CALLBACK_CHARS_MAX} are allowed"
        )
        raise _invalid([FieldError(name="url", message=message)])
    problems = _header_problems(headers, reserved)
    try:
        scheme, host, port, target = _split(url)
    except _BadUrl as bad:
        problems.insert(0, FieldError(name="url", message=str(bad)))
    if problems:
        raise _invalid(problems)
    bracketed = f"[{host}]" if ":" in host else host
    return CallbackTarget(
        scheme=scheme,
        host=host,
        port=port,
        target=target,
        host_header=bracketed if port == _DEFAULT_PORTS[scheme] else f"{bracketed}:{port}",
        headers=tuple((name, value.strip(" ")) for name, value in headers.items()),
    )


class _BadUrl(Exception):
    """The message says what is wrong."""


def _invalid(problems: list[FieldError]) -> ValidationError:
    return ValidationError("The callback cannot be registered as it stands", fields=tuple(problems))


def _split(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and request target."""
    if not url.isprintable() or " " in url or "\\" in url:
        raise _BadUrl("has white space, control characters or a backslash")
    if "#" in url:
        raise _BadUrl("has a fragment (#...); leave it out")
    match = _URL.fullmatch(url)
    if match is None:
        raise _BadUrl("must start with http:// or https://")
    scheme = match["scheme"].lower()
    host, port = _split_authority(match["authority"], scheme)
    target = match["target"]
    if not target.isascii():
        raise _BadUrl("must be percent-encoded after the host")
    return scheme, host, port, target if target.startswith("/") else f"/{target}"


def _split_authority(authority: str, scheme: str) -> tuple[str, int]:
    if "@" in authority:
        raise _BadUrl("has user information (...@); use a header instead")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _BadUrl("has no valid host and port")
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise _BadUrl("has a port outside of 1..65535")
    return _host(match["host"]), port


def _host(written: str) -> str:
    """The host as it is looked up or dialled."""
    if not written:
        raise _BadUrl("has no host")
    if written.startswith("["):
        return _ipv6(written[1:-1])
    # Mapping may turn other scripts' digits and dots into ASCII, so numbers are looked for after it.
    host = _ascii(written).lower().removesuffix(".")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _ipv4(host)
    if len(host) > _HOST_NAME_CHARS_MAX or not _HOST_NAME.fullmatch(host):
        raise _BadUrl("has an invalid host name")
    return host


def _ascii(written: str) -> str:
    if written.isascii():
        return written
    try:
        return idna.encode(written, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise _BadUrl("has an invalid international host name") from None


def _ipv4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise _BadUrl("has a host that is a number; write an address as four decimal parts") from None


def _ipv6(host: str) -> str:
    if "%" in host:
        raise _BadUrl("has an IPv6 address with a scope id")
    try:
        return str(IPv6Address(host))
    except AddressValueError:
        raise _BadUrl("has an invalid IPv6 address") from None


def _header_problems(headers: Mapping[str, str], reserved: Collection[str]) -> list[FieldError]:
    problems: list[FieldError] = []
    seen: set[str] = set()
    for name, value in headers.items():
        message = _header_problem(name, value, seen, reserved)
        if message is not None:
            problems.append(FieldError(name=f"headers.{name}", message=message))
        seen.add(name.lower())
    return problems


def _header_problem(name: str, value: str, seen: set[str], reserved: Collection[str]) -> str | None:
    """What is wrong with one header, in words that do not repeat its value."""
    lowered = name.lower()
    if not _TOKEN.fullmatch(name):
        return "is not a header name"
    if lowered in _OUR_HEADERS or lowered in reserved or lowered.startswith(_OUR_HEADER_PREFIX):
        return "is set by the dispatcher and cannot be given"
    if lowered in seen:
        return "is given twice"
    if not _VALUE.fullmatch(value):
        return "has a value with control characters or characters outside of ASCII"
    return None
