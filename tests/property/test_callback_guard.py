"""Whatever text is registered as a callback: it is refused, or what is dialled is a global address.

The way is the real one from the text to the socket: ``check_registration``, then ``Dialer``.
Its resolver answers as a hostile zone may, and as libc's would for names that it takes for
numbers.  The judges are others' code: the standard library's ``is_global``, its URL parser,
and ``inet_aton``, which knows every odd spelling of an IPv4 address.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import CallbackTarget, check_registration
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import DeliveryFailed, FailureClass
from dispatcher.errors import ValidationError

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("DISPATCHER_GUARD_EXAMPLES", "1000"))
STRICT = AddressPolicy()
TLS = client_context()
TEREDO = IPv6Network("2001::/32")

INSIDE = (
    *("127.0.0.1", "0.0.0.0", "10.0.0.1", "169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1"),
    *("100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
)
OUTSIDE = ("8.8.8.8", "1.1.1.1", "93.184.216.34")
PREFIXES = ("::", "::ffff:", "::ffff:0:", "64:ff9b::", "64:ff9b:1::", "fe80::5efe:", "2600:1::5efe:")
DOTS = (".", "\u3002", "\uff0e", "\uff61", "%2e", "..")
DIGITS = (0x30, 0xFF10, 0x1D7CE, 0x1D7D8, 0x0660, 0x0966)  # ASCII, full-width, mathematical, Arabic, Indic


def mostly(usual: str, *odd: str) -> st.SearchStrategy[str]:
    """The usual text, and each of the odd ones now and then."""
    return st.sampled_from((*[usual] * 4 * len(odd), *odd))


octet_spellings = mostly("{}", "0{:o}", "0o{:o}", "0x{:x}", "0X{:X}", "{:03}", "{:08d}", "0x{:08x}")


@st.composite
def ipv4_spellings(draw: st.DrawFn) -> str:
    """An IPv4 address in one to four parts, each octal, hexadecimal or decimal, in any digits and dots."""
    number = int(IPv4Address(draw(st.sampled_from((*INSIDE, *OUTSIDE)))))
    parts = draw(st.sampled_from((1, 2, 3, 4, 4, 4, 4, 4)))
    values = [number >> 8 * (3 - index) & 0xFF for index in range(parts - 1)]
    values.append(number & (1 << 8 * (5 - parts)) - 1)
    text = draw(mostly(*DOTS)).join(draw(octet_spellings).format(value) for value in values)
    zero = draw(st.sampled_from(DIGITS))
    return "".join(chr(zero + int(char)) if char in "0123456789" else char for char in text)


@st.composite
def ipv6_spellings(draw: st.DrawFn) -> str:
    """An IPv6 address, many of them around an IPv4 one, long or short, with or without a zone."""
    inside = draw(st.sampled_from((*INSIDE, *OUTSIDE)))
    number = int(IPv4Address(inside))
    bare = draw(
        st.sampled_from([prefix + inside for prefix in PREFIXES])
        | st.just(f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1")
        | st.just(str(IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | number ^ 0xFFFFFFFF)))
        | st.sampled_from(("::1", "::", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "2606:4700::1111"))
        | st.integers(0, 2**128 - 1).map(lambda value: str(IPv6Address(value)))
    )
    spelt = draw(
        st.sampled_from([bare, bare.upper(), IPv6Address(bare).exploded, IPv6Address(bare).compressed])
    )
    return f"[{spelt}{draw(mostly('', '%eth0', '%25lo', '%'))}]"


names = st.sampled_from(
    ("receiver.example", "localhost", "LOCALHOST.", "metadata.google.internal", "127.0.0.1.nip.example")
)
hosts = ipv4_spellings() | ipv6_spellings() | names | st.text(max_size=20)
before_hosts = mostly("", "a@", "a:b@", "8.8.8.8@", "127.0.0.1@", "\\", "8.8.8.8#", "\u00ad")
after_hosts = mostly("", ".", ":80", ":0", ":443", "#", "\\@8.8.8.8", "?", "%00", "\u200d")
schemes = mostly("http://", "https://", "HTTP://", "http:", "//", "ftp://")
urls = st.builds("{}{}{}{}/x".format, schemes, before_hosts, hosts, after_hosts) | st.text(max_size=40)
answers = st.lists(
    st.sampled_from((*INSIDE, *OUTSIDE, "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "localhost", "127.1"))
    | (ipv4_spellings() | ipv6_spellings()).map(lambda text: text.strip("[]")),
    max_size=4,
)


def read(url: str) -> CallbackTarget | None:
    try:
        return check_registration(url, {}, STRICT)
    except ValidationError:
        return None


def as_libc_reads(host: str) -> IPv4Address | None:
    with suppress(OSError, UnicodeError):
        return IPv4Address(socket.inet_aton(host))
    return None


async def dialled_for(target: CallbackTarget, answer: Sequence[str]) -> list[str]:
    """Every address that is dialled, when none of them can be connected to."""
    dialled: list[str] = []

    async def resolve(host: str) -> Sequence[str]:
        number = as_libc_reads(host)
        return answer if number is None else [str(number)]

    async def connect(address: str, port: int) -> trio.abc.Stream:
        dialled.append(address)
        raise ConnectionRefusedError

    with pytest.raises(DeliveryFailed) as caught:
        await Dialer(STRICT, TLS, resolve=resolve, connect=connect).dial(target)
    assert dialled or caught.value.failure in (FailureClass.ADDRESS, FailureClass.DNS)
    return dialled


@settings(max_examples=EXAMPLES, deadline=None)
@given(urls, answers)
@example("http://receiver.example/", ["10.0.0.1", "8.8.8.8", "::ffff:127.0.0.1"])
def test_what_is_dialled_is_global_whatever_was_registered_and_whatever_the_zone_says(
    url: str, answer: list[str]
) -> None:
    target = read(url)
    event("refused" if target is None else "registered")
    if target is None:
        return
    for address in trio.run(dialled_for, target, answer):
        found = ip_address(address)
        event("dialled")
        assert found.is_global or found in TEREDO, address  # some releases call all of Teredo private
        assert not found.is_multicast, address
        for inner in inner_addresses(found):
            assert inner.is_global, address


def inner_addresses(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """As the standard library sees them."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in IPv6Network("64:ff9b::/96"):
        found.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return [inner for inner in found if inner is not None]


@settings(max_examples=EXAMPLES, deadline=None)
@given(urls)
def test_another_url_parser_finds_the_same_host_and_port(url: str) -> None:
    target = read(url)
    if target is None:
        return
    event("registered")
    written = f"{target.scheme}://{target.host_header}{target.target}"
    for text in (written, url) if url.isascii() else (written,):
        parts = urlsplit(text)
        assert parts.username is None
        assert parts.password is None
        host = (parts.hostname or "").removesuffix(".")
        assert host == target.host or ip_address(host) == ip_address(target.host)
        assert (parts.port or {"http": 80, "https": 443}[parts.scheme]) == target.port


@settings(max_examples=EXAMPLES, deadline=None)
@given(ipv4_spellings() | ipv6_spellings())
def test_what_libc_takes_for_an_address_is_registered_as_that_address_or_not_at_all(host: str) -> None:
    target = read(f"http://{host}/")
    if target is None:
        return
    event("registered")
    number = as_libc_reads(target.host)
    assert number is None or str(number) == target.host
