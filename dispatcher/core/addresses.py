"""Which addresses and ports a callback may be sent to.

An application chooses the name, and whoever runs the name's zone chooses the
addresses, so neither can be trusted: the rule is asked about the numeric address
that is about to be dialled, and about nothing else.

It is an allow list in effect.  IPv6 must lie in the global unicast block 2000::/3;
what IANA's special-purpose registries (RFC 6890) take out of the global space is
refused by the tables below.  They stand here, and not in ``ipaddress.is_global``,
because that property's answers differ between patch releases of Python.

Several IPv6 forms carry an IPv4 address that some gateway, or this machine's own
stack, may unwrap.  They are worth what that IPv4 address is worth.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import msgspec


class AddressPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator allows besides the global addresses, and what of these not.

    ``allow_private`` opens private, loopback and link-local addresses;
    ``allow_networks`` opens its blocks.  Neither opens what can never be a
    receiver: unspecified, multicast, broadcast.  A cloud's metadata addresses hand
    out credentials; only a block that names them opens them.  ``deny_networks`` closes
    its blocks whatever opens them: the operator's own machines may have global addresses.
    """

    allow_private: bool = False
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    deny_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    allow_ports: tuple[range, ...] = (range(1, 65536),)


class _OpenedBy(Enum):
    PRIVATE = "allow_private or allow_networks"
    NETWORK = "allow_networks"
    NOTHING = "nothing"


class _Block(msgspec.Struct, frozen=True):
    """Addresses that are not global, and what may open them all the same."""

    network: IPv4Network | IPv6Network
    reason: str
    opened_by: _OpenedBy


def _blocks(opened_by: _OpenedBy, reason: str, *networks: str) -> tuple[_Block, ...]:
    return tuple(_Block(ip_network(network), reason, opened_by) for network in networks)


# The first block that holds an address decides, so the narrow ones come first.
_IPV4_BLOCKS = (
    *_blocks(_OpenedBy.NOTHING, "unspecified", "0.0.0.0/8"),
    *_blocks(_OpenedBy.NOTHING, "broadcast", "255.255.255.255/32"),
    *_blocks(_OpenedBy.NOTHING, "multicast", "224.0.0.0/4"),
    *_blocks(
        _OpenedBy.NETWORK,
        "metadata service",
        "169.254.169.254/32",  # most clouds
        "169.254.170.2/32",  # AWS, credentials of containers
        "169.254.170.23/32",  # AWS, credentials of pods
        "169.254.0.23/32",  # Tencent
        "169.254.42.42/32",  # Scaleway
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host, behind an address that looks global
        "192.0.0.192/32",  # Oracle
    ),
    *_blocks(_OpenedBy.PRIVATE, "loopback", "127.0.0.0/8"),
    *_blocks(_OpenedBy.PRIVATE, "private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    *_blocks(_OpenedBy.PRIVATE, "link-local", "169.254.0.0/16"),
    *_blocks(_OpenedBy.NETWORK, "shared by a carrier", "100.64.0.0/10"),
    *_blocks(_OpenedBy.NETWORK, "benchmarking", "198.18.0.0/15"),
    *_blocks(_OpenedBy.NETWORK, "documentation", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
    *_blocks(_OpenedBy.NETWORK, "6to4 relay", "192.88.99.0/24"),
    *_blocks(_OpenedBy.NETWORK, "reserved", "192.0.0.0/24", "240.0.0.0/4"),
)

_IPV6_BLOCKS = (
    *_blocks(_OpenedBy.NOTHING, "unspecified", "::/128"),
    *_blocks(_OpenedBy.NOTHING, "multicast", "ff00::/8"),
    *_blocks(
        _OpenedBy.NETWORK,
        "metadata service",
        "fd00:ec2::254/128",  # AWS, as the IPv4 ones
        "fd00:ec2::23/128",
        "fd20:ce::254/128",  # Google
        "fd00:42::42/128",  # Scaleway
        "fe80::a9fe:a9fe/128",  # OpenStack
    ),
    *_blocks(_OpenedBy.PRIVATE, "loopback", "::1/128"),
    *_blocks(_OpenedBy.PRIVATE, "private", "fc00::/7"),
    *_blocks(_OpenedBy.PRIVATE, "link-local", "fe80::/10"),
    *_blocks(_OpenedBy.NETWORK, "site-local", "fec0::/10"),
    *_blocks(_OpenedBy.NETWORK, "benchmarking", "2001:2::/48"),
    *_blocks(_OpenedBy.NETWORK, "documentation", "2001:db8::/32", "3fff::/20"),
    *_blocks(_OpenedBy.NETWORK, "translation prefix", "64:ff9b:1::/48"),  # its inside is not fixed
    *_blocks(_OpenedBy.NETWORK, "reserved", "2001::/23"),
    # Everything outside of global unicast.
    *_blocks(_OpenedBy.NETWORK, "reserved", "::/3", "4000::/2", "8000::/1"),
)

_IPV4_IN_LAST_BITS = (
    IPv6Network("::/96"),  # compatible, RFC 4291; without :: and ::1
    IPv6Network("::ffff:0:0/96"),  # mapped, RFC 4291
    IPv6Network("::ffff:0:0:0/96"),  # translated, RFC 2765
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
)
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_DENIED = "denied by the operator"
_ISATAP_IDENTIFIERS = (0x0000_5EFE, 0x0200_5EFE)


def is_address(text: str) -> bool:
    """Whether a host is an address in standard spelling, so that there is no name to look up."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def judge(address: str, policy: AddressPolicy) -> str | None:
    """Say why a numeric address must not be dialled; None: it may be.

    Only the standard spelling of an address is one: no octal, no short forms, no
    scope id.  The reason is in our words and holds nothing of the input.
    """
    if "%" in address:
        return "scope id"
    try:
        parsed = ip_address(address)
    except ValueError:
        return "not an address"
    if isinstance(parsed, IPv4Address):
        return _judge_ipv4(parsed, policy)
    return _judge_ipv6(parsed, policy)


def judge_port(port: int, policy: AddressPolicy) -> str | None:
    """Say why a port must not be dialled; None: it may be."""
    return None if any(port in allowed for allowed in policy.allow_ports) else f"port {port}"


def _judge_ipv4(address: IPv4Address, policy: AddressPolicy) -> str | None:
    if _is_denied(address, policy):
        return _DENIED
    return _judge_by(_IPV4_BLOCKS, address, policy)


def _judge_ipv6(address: IPv6Address, policy: AddressPolicy) -> str | None:
    if _is_denied(address, policy):
        return _DENIED
    if _is_wrapper(address):
        return _judge_all(_embedded_ipv4(address), policy)
    return _judge_by(_IPV6_BLOCKS, address, policy) or _judge_all(_embedded_ipv4(address), policy)


def _judge_all(addresses: tuple[IPv4Address, ...], policy: AddressPolicy) -> str | None:
    reasons = (_judge_ipv4(address, policy) for address in addresses)
    return next((reason for reason in reasons if reason is not None), None)


def _is_denied(address: IPv4Address | IPv6Address, policy: AddressPolicy) -> bool:
    return any(address in network for network in policy.deny_networks)


def _judge_by(
    blocks: tuple[_Block, ...], address: IPv4Address | IPv6Address, policy: AddressPolicy
) -> str | None:
    block = next((block for block in blocks if address in block.network), None)
    if block is None:
        return None
    if block.opened_by is _OpenedBy.NOTHING:
        return block.reason
    if block.opened_by is _OpenedBy.PRIVATE and policy.allow_private:
        return None
    if any(address in network for network in policy.allow_networks):
        return None
    return block.reason


def _is_wrapper(address: IPv6Address) -> bool:
    """Whether the whole meaning of the address is the IPv4 address in it."""
    wrappers = (*_IPV4_IN_LAST_BITS, _SIX_TO_FOUR, _TEREDO)
    return int(address) > 1 and any(address in network for network in wrappers)


def _embedded_ipv4(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a translator, a tunnel or the local stack would unwrap."""
    number = int(address)
    if number <= 1:
        return ()
    last_bits = IPv4Address(number & 0xFFFF_FFFF)
    if address in _SIX_TO_FOUR:
        return (IPv4Address(number >> 80 & 0xFFFF_FFFF),)
    if address in _TEREDO:  # its server, and its client with every bit turned
        server = IPv4Address(number >> 64 & 0xFFFF_FFFF)
        return (server, IPv4Address(int(last_bits) ^ 0xFFFF_FFFF))
    if any(address in network for network in _IPV4_IN_LAST_BITS):
        return (last_bits,)
    if number >> 32 & 0xFFFF_FFFF in _ISATAP_IDENTIFIERS:
        return (last_bits,)
    return ()
