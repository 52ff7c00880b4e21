"""How many connections each address has, and whether it may have one more.

An IPv4 address counts for itself; of IPv6 the first 64 bits do, since whoever has one
address there has all of its network.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Place = tuple[int, int]
"""An address as it is counted: the version of IP, and the bits that count."""

_HOST_BITS = 64


class AddressPlaces:
    """The connections that are open, by address.  What is not open is not remembered."""

    def __init__(self, per_address_max: int = 0, unlimited: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._per_address_max = per_address_max
        self._unlimited = tuple(unlimited)
        self._open: dict[Place, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def place_of(self, host: str) -> Place | None:
        """What a host counts as; None when nothing limits it: by the settings, or as it is no IP address."""
        if not self._per_address_max or not host:
            return None
        try:
            address = ip_address(host)
        except ValueError:
            return None
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is None:
                is_unlimited = any(address in network for network in self._unlimited)
                return None if is_unlimited else (6, int(address) >> _HOST_BITS)
            address = address.ipv4_mapped
        return None if any(address in network for network in self._unlimited) else (4, int(address))

    def take(self, place: Place) -> bool:
        """Take one more; false, and nothing is taken, when the address has all it may have."""
        count = self._open.get(place, 0)
        if count >= self._per_address_max:
            return False
        self._open[place] = count + 1
        return True

    def leave(self, place: Place) -> None:
        """A connection that took its place has ended."""
        count = self._open[place] - 1
        if count:
            self._open[place] = count
        else:
            del self._open[place]
