"""Opens connections to callback receivers, and only to addresses that were judged.

The guard stands here, where the connection is made, and nowhere can it be passed:
a name is resolved once, each address it has is judged, and the socket is connected
to one of the judged addresses as a number.  Nothing resolves the name again, so a
zone that answers differently the next time (rebinding) gains nothing: the next
answer is judged as well.  TLS then checks the certificate against the name.

Addresses that are refused are left out, the others are tried in the resolver's
order.  A name that has only refused ones is "address not allowed".

An egress proxy (``egress_proxy``) is one more way to connect to a judged number.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import trio

from dispatcher import limits
from dispatcher.core.addresses import AddressPolicy, is_address, judge, judge_port
from dispatcher.core.callback_rules import CallbackTarget
from dispatcher.deliver.callback_tls import tls_problem
from dispatcher.deliver.sink import DeliveryFailed, FailureClass

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""A host name to its numeric addresses, best first.  Raises ``OSError`` when it has none."""

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""A numeric address and a port to a connected stream.  Raises ``OSError``."""


class TunnelFailed(OSError):
    """The egress proxy did not connect us.  The message is in our words, safe to log."""


class Dialer:
    """Makes the connections of all callbacks; one of it serves the whole process.

    ``resolve`` and ``connect`` are the network's; tests pass their own.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        tls: ssl.SSLContext,
        *,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
    ) -> None:
        self._policy = policy
        self._tls = tls
        self._resolve = resolve or SystemResolver()
        self._connect = connect or connect_tcp

    def __repr__(self) -> str:
        return f"<Dialer {self._policy}>"

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Shake hands by another context from now on; connections that are open stay as they are."""
        self._tls = tls

    async def dial(self, target: CallbackTarget) -> trio.abc.Stream:
        """Connect to a callback's receiver; with https the handshake is done.

        Has no time limit of its own: the caller's covers looking up, connecting and
        the handshake.  Raises ``DeliveryFailed``.  Cancellation leaves no socket.
        """
        refused = judge_port(target.port, self._policy)
        if refused is not None:
            raise DeliveryFailed(FailureClass.ADDRESS, detail=refused)
        addresses = self._allowed(await self._lookup(target.host))
        try:
            stream = await connect_first(self._connect, addresses, target.port)
        except OSError as error:
            raise _failure(error) from error
        if target.scheme == "https":
            return await self._handshake(stream, target.host)
        return stream

    async def _lookup(self, host: str) -> Sequence[str]:
        if is_address(host):
            return (host,)
        try:
            return await self._resolve(host)
        except (OSError, UnicodeError):  # socket.gaierror is an OSError; UnicodeError is a label too long
            raise DeliveryFailed(FailureClass.DNS) from None

    def _allowed(self, addresses: Sequence[str]) -> list[str]:
        """The addresses that may be dialled, each once, in order; never an empty list."""
        if not addresses:
            raise DeliveryFailed(FailureClass.DNS, detail="the name has no address")
        reasons = {address: judge(address, self._policy) for address in addresses}
        allowed = [address for address, reason in reasons.items() if reason is None]
        if not allowed:
            reason = next(iter(reasons.values()))
            raise DeliveryFailed(FailureClass.ADDRESS, detail=reason or "")
        return allowed[: limits.CALLBACK_ADDRESSES_MAX]

    async def _handshake(self, stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
        try:
            secured = trio.SSLStream(stream, self._tls, server_hostname=host, https_compatible=True)
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            detail = tls_problem(error, "it ended the handshake")
            raise DeliveryFailed(FailureClass.TLS, detail=detail) from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


def _failure(error: OSError) -> DeliveryFailed:
    match error:
        case TunnelFailed():
            return DeliveryFailed(FailureClass.PROXY, detail=str(error))
        case ConnectionRefusedError():
            return DeliveryFailed(FailureClass.REFUSED)
        case OSError(errno=errno.ETIMEDOUT):
            return DeliveryFailed(FailureClass.TIMEOUT)
        case _:
            return DeliveryFailed(FailureClass.CONNECTION)


async def connect_first(connect: Connect, addresses: Sequence[str], port: int) -> trio.abc.Stream:
    """Try one address after the other; ``addresses`` is not empty.  Raises the last one's ``OSError``.

    Each but the last has a bound of its own, or one that swallows packets would
    use up the whole time.
    """
    for address in addresses[:-1]:
        with trio.move_on_after(limits.CALLBACK_ADDRESS_ATTEMPT_S):
            try:
                return await connect(address, port)
            except OSError:
                continue
    return await connect(addresses[-1], port)


async def connect_tcp(address: str, port: int) -> trio.SocketStream:
    """Connect to a numeric address; a name raises ``OSError`` and is not looked up."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.inet_pton(family, address)
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)  # which sets TCP_NODELAY


class SystemResolver:
    """The system's resolver, with a bound on its threads and a share for names that fail.

    A lookup occupies a thread until the system's resolver gives up, whatever the
    caller does meanwhile, so the places are given back when the thread ends and not
    when the caller leaves; that is also why these threads are not Trio's common ones,
    which the registry needs.  A name whose last lookup brought nothing, or was given
    up, waits for one of ``limits.DNS_DOUBTFUL_LOOKUPS_MAX`` places: dead names
    cannot take the others' (INV-9).
    """

    def __init__(self) -> None:
        doubtful = limits.DNS_DOUBTFUL_LOOKUPS_MAX
        self._limiter = trio.CapacityLimiter(limits.DNS_LOOKUPS_MAX - doubtful)
        self._doubtful_limiter = trio.CapacityLimiter(doubtful)
        self._doubtful: OrderedDict[str, None] = OrderedDict()

    @property
    def doubtful_count(self) -> int:
        """How many names brought nothing the last time."""
        return len(self._doubtful)

    async def __call__(self, host: str) -> Sequence[str]:
        """The addresses of ``host``.

        Cancellation leaves a thread that ends by itself within the system's time limit.
        """
        limiter = self._doubtful_limiter if host in self._doubtful else self._limiter
        try:
            found = await trio.to_thread.run_sync(_getaddrinfo, host, limiter=limiter, abandon_on_cancel=True)
        except BaseException:
            self._doubt(host)
            raise
        self._doubtful.pop(host, None)
        return found

    def _doubt(self, host: str) -> None:
        self._doubtful[host] = None
        if len(self._doubtful) > limits.DNS_DOUBTFUL_NAMES_MAX:
            self._doubtful.popitem(last=False)


def _getaddrinfo(host: str) -> list[str]:
    # As bytes the name goes to the resolver as it is; text would pass Python's own IDNA codec.
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]
