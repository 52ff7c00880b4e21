"""The address guard's rule, from both sides.

``is_global`` of the standard library is the second opinion: what we allow, it calls
global.  The other direction does not hold, on purpose.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.core.addresses import AddressPolicy, is_address, judge, judge_port

STRICT = AddressPolicy()
PRIVATE = AddressPolicy(allow_private=True)


def allowing(*networks: str, allow_private: bool = False) -> AddressPolicy:
    return AddressPolicy(
        allow_private=allow_private, allow_networks=tuple(ip_network(network) for network in networks)
    )


def number(address: str | IPv4Address) -> int:
    return int(IPv4Address(address))


def mapped(address: str) -> str:
    return str(IPv6Address(0xFFFF << 32 | number(address)))


def compatible(address: str) -> str:
    return str(IPv6Address(number(address)))


def translated(address: str) -> str:
    return str(IPv6Address(0xFFFF << 48 | number(address)))


def nat64(address: str) -> str:
    return str(IPv6Address(int(IPv6Address("64:ff9b::")) | number(address)))


def six_to_four(address: str) -> str:
    return str(IPv6Address(0x2002 << 112 | number(address) << 80 | 1))


def teredo_client(address: str) -> str:
    server = number("65.54.227.120")
    return str(IPv6Address(0x2001_0000 << 96 | server << 64 | number(address) ^ 0xFFFF_FFFF))


def teredo_server(address: str) -> str:
    client = number("8.8.8.8") ^ 0xFFFF_FFFF
    return str(IPv6Address(0x2001_0000 << 96 | number(address) << 64 | client))


def isatap(address: str) -> str:
    return str(IPv6Address(int(IPv6Address("2600:1::")) | 0x5EFE << 32 | number(address)))


def isatap_global(address: str) -> str:
    return str(IPv6Address(int(IPv6Address("2600:1::")) | 0x0200_5EFE << 32 | number(address)))


WRAPPINGS = (
    mapped,
    compatible,
    translated,
    nat64,
    six_to_four,
    teredo_client,
    teredo_server,
    isatap,
    isatap_global,
)

REFUSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "10.0.0.0": "private",
    "10.255.255.255": "private",
    "100.64.0.0": "shared by a carrier",
    "100.127.255.255": "shared by a carrier",
    "100.100.100.200": "metadata service",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata service",
    "169.254.0.1": "link-local",
    "169.254.169.254": "metadata service",
    "169.254.0.23": "metadata service",
    "169.254.42.42": "metadata service",
    "169.254.170.2": "metadata service",
    "169.254.170.23": "metadata service",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.1": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.168.0.1": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "0:0:0:0:0:0:0:1": "loopback",
    "64:ff9b:1::8.8.8.8": "translation prefix",
    "100::1": "reserved",
    "2001:2::1": "benchmarking",
    "2001:10::1": "reserved",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "reserved",
    "8000::1": "reserved",
    "fc00::1": "private",
    "fd00:42::42": "metadata service",
    "fd00:ec2::23": "metadata service",
    "fd00:ec2::254": "metadata service",
    "fd20:ce::254": "metadata service",
    "fd12:3456::1": "private",
    "fe80::1": "link-local",
    "fe80::a9fe:a9fe": "metadata service",
    "::ffff:169.254.169.254": "metadata service",
    "::ffff:0:127.0.0.1": "loopback",
    "::127.0.0.1": "loopback",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b::100.64.0.1": "shared by a carrier",
    "2002:7f00:1::": "loopback",
    "2002:c0a8:1::1": "private",
    "2001:0:808:808::f5ff:fffe": "private",  # Teredo: the client is 10.0.0.1
    "2001:0:a00:1::f7f7:f7f7": "private",  # its server is
    "fe80::1%eth0": "scope id",
    "2600::1%1": "scope id",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
}

ALLOWED = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::1",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "3ffe::1",
)

NOT_ADDRESSES = (
    "",
    "localhost",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "127.0.1",
    "127.0.0.01",
    "127.0.0.1.",
    " 127.0.0.1",
    "127.0.0.1\n",
    "127.0.0.1/32",
    "[::1]",
    "::1/128",
    "1.2.3.4.5",
    "1.2.3.256",
    "\uff11\uff12\uff17.0.0.1",  # full-width digits
    "\u0661.1.1.1",  # an Arabic one
)

ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address)
unicast_ipv6 = st.integers(2**125, 2**126 - 1).map(IPv6Address)
interesting_ipv4 = ipv4 | st.sampled_from([a for a in (*REFUSED, *ALLOWED) if ":" not in a]).map(IPv4Address)


@pytest.mark.parametrize(("address", "reason"), REFUSED.items())
def test_what_is_not_global_is_refused_by_name(address: str, reason: str) -> None:
    assert judge(address, STRICT) == reason


@pytest.mark.parametrize("address", ALLOWED)
def test_global_addresses_are_allowed(address: str) -> None:
    assert judge(address, STRICT) is None


@pytest.mark.parametrize("text", NOT_ADDRESSES)
@pytest.mark.parametrize("policy", [STRICT, PRIVATE, allowing("0.0.0.0/0", "::/0", allow_private=True)])
def test_other_spellings_are_no_addresses_whatever_is_allowed(text: str, policy: AddressPolicy) -> None:
    assert judge(text, policy) == "not an address"
    assert not is_address(text)


@pytest.mark.parametrize("wrap", WRAPPINGS)
@pytest.mark.parametrize("inside", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "0.0.0.0", "224.0.0.1"])
def test_no_wrapping_hides_an_address(wrap: object, inside: str) -> None:
    assert judge(wrap(inside), STRICT) is not None  # type: ignore[operator]


@given(interesting_ipv4, st.sampled_from(WRAPPINGS), st.booleans())
@example(IPv4Address("0.0.0.2"), compatible, False)
def test_a_wrapped_ipv4_is_judged_as_that_ipv4(inside: IPv4Address, wrap: object, private: bool) -> None:
    policy = AddressPolicy(allow_private=private)
    outside = wrap(str(inside))  # type: ignore[operator]
    if outside in {"::", "::1"}:
        return  # addresses of their own
    assert judge(outside, policy) == judge(str(inside), policy)


@given(interesting_ipv4 | ipv6 | unicast_ipv6)
def test_what_is_allowed_the_standard_library_calls_global(address: IPv4Address | IPv6Address) -> None:
    if judge(str(address), STRICT) is None and address not in IPv6Network("2001::/32"):
        assert address.is_global
        assert not address.is_multicast


@given(ipv4)
def test_what_the_standard_library_calls_global_is_allowed_but_for_named_ones(address: IPv4Address) -> None:
    named = ("192.88.99.0/24", "168.63.129.16/32", "192.0.0.0/24", "224.0.0.0/4")
    if address.is_global and not any(address in IPv4Network(network) for network in named):
        assert judge(str(address), STRICT) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "172.16.5.5", "192.168.1.1", "169.254.1.1"])
def test_allow_private_opens_private_loopback_and_link_local(address: str) -> None:
    assert judge(address, PRIVATE) is None
    assert judge(mapped(address), PRIVATE) is None


@pytest.mark.parametrize("address", ["::1", "fc00::1", "fd12::1", "fe80::1"])
def test_allow_private_opens_their_ipv6_kin(address: str) -> None:
    assert judge(address, PRIVATE) is None


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
        "::",
        "ff02::1",
        "fec0::1",
        "2001:db8::1",
        "fd00:ec2::254",
        "fe80::1%eth0",
        mapped("169.254.169.254"),
        nat64("0.0.0.0"),
    ],
)
def test_allow_private_opens_nothing_else(address: str) -> None:
    assert judge(address, PRIVATE) is not None


def test_a_block_opens_itself_and_nothing_beside_it() -> None:
    policy = allowing("10.1.0.0/16", "fd00:1::/32")
    for address in ("10.1.0.1", mapped("10.1.0.1"), nat64("10.1.255.255"), "fd00:1::9"):
        assert judge(address, policy) is None
    for address in ("10.2.0.1", mapped("10.2.0.1"), "127.0.0.1", "fd00:2::9", "::1"):
        assert judge(address, policy) is not None


def test_a_block_that_names_the_metadata_address_opens_it() -> None:
    assert judge("169.254.169.254", allowing("169.254.169.254/32")) is None


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", mapped("0.0.0.0")]
)
def test_no_block_opens_what_can_never_be_a_receiver(address: str) -> None:
    assert judge(address, allowing("0.0.0.0/0", "::/0", allow_private=True)) is not None


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "2600:1::5",
        "10.1.2.3",
        mapped("8.8.8.8"),
        nat64("8.8.8.8"),
        six_to_four("8.8.8.8"),
        teredo_client("8.8.8.8"),
        isatap("8.8.8.8"),
        "2a00:64::808:808",
    ],
)
def test_a_denied_block_is_closed_whatever_opens_it_and_however_it_is_wrapped(address: str) -> None:
    denied = AddressPolicy(
        allow_private=True,
        allow_networks=(ip_network("0.0.0.0/0"), ip_network("::/0")),
        deny_networks=tuple(map(ip_network, ("8.8.8.0/24", "10.1.0.0/16", "2600:1::/32", "2a00:64::/96"))),
    )
    assert judge(address, denied) == "denied by the operator"
    for other in ("8.8.9.8", "10.2.0.1", "2600:2::5", mapped("8.8.9.8")):
        assert judge(other, denied) is None


def test_a_port_is_allowed_by_one_of_the_ranges() -> None:
    policy = AddressPolicy(allow_ports=(range(443, 444), range(8000, 9000)))
    assert [port for port in (1, 442, 443, 444, 7999, 8000, 8999, 9000) if not judge_port(port, policy)] == [
        *(443, 8000, 8999)
    ]
    assert judge_port(22, policy) == "port 22"
    assert all(judge_port(port, STRICT) is None for port in (1, 80, 65535))


def test_an_ipv6_block_does_not_open_the_ipv4_addresses_wrapped_in_it() -> None:
    assert judge(mapped("127.0.0.1"), allowing("::/0")) == "loopback"
    assert judge(six_to_four("10.0.0.1"), allowing("2002::/16")) == "private"


def test_an_isatap_address_needs_both_its_prefix_and_its_ipv4() -> None:
    assert judge("fe80::5efe:8.8.8.8", STRICT) == "link-local"
    assert judge("fe80::5efe:8.8.8.8", PRIVATE) is None
    assert judge("fe80::5efe:10.0.0.1", allowing("fe80::/10")) == "private"


@given(st.text(max_size=50))
def test_any_text_is_judged_without_an_exception(text: str) -> None:
    assert (judge(text, STRICT) == "not an address") or "%" in text or ip_address(text)
