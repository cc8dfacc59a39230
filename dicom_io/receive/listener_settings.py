"""How the listener is set up."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from dataclasses import dataclass
from functools import lru_cache

_RESOLUTION_SECONDS = 60


@dataclass(frozen=True, slots=True)
class AllowedCaller:
    """An AE title that may call, from anywhere or from one host (a name, an address or a network such as 10.1.0.0/16).

    An AE title alone is no proof of identity: anybody can claim it. The host makes claiming harder. A host that is this
    machine, under whichever of its names and addresses, admits calls from this machine, from whichever of them.
    """

    ae_title: str
    host: str | None = None

    def admits(self, ae_title: str, address: str) -> bool:
        """Say whether a call under this title from this address is welcome."""
        if ae_title != self.ae_title.strip():
            return False
        return self.host is None or _same_host(self.host, address)


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Everything the listener can be told. Times are in seconds, sizes in bytes.

    `network_timeout_seconds` bounds the silence between two PDUs and the arrival of one whole PDU;
    `message_timeout_seconds` bounds one whole DIMSE message, so that a peer that trickles is sent away at last.
    An empty `allowed_callers` admits every calling AE title.
    """

    ae_title: str = "BONEWATCH"
    bind_host: str = "0.0.0.0"  # noqa: S104 - a PACS calls from another machine; who may call is settled above
    port: int = 11112
    require_called_ae_title: bool = True
    allowed_callers: tuple[AllowedCaller, ...] = ()
    maximum_associations: int = 20
    maximum_pdu: int = 131_072
    acse_timeout_seconds: float = 30.0
    network_timeout_seconds: float = 60.0
    message_timeout_seconds: float = 1800.0
    shutdown_seconds: float = 20.0
    minimum_free_bytes: int = 1 << 30
    maximum_instance_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if not 1 <= len(self.ae_title.strip()) <= 16:
            raise ValueError("ae_title: wants 1 to 16 characters (PS3.5 6.2, AE)")
        if self.maximum_pdu < 4096:
            # 0 would mean "no limit" (PS3.8 D.1) and let a peer claim 4 GiB at once.
            raise ValueError("maximum_pdu: wants at least 4096 bytes")
        if self.maximum_associations < 1:
            raise ValueError("maximum_associations: wants at least 1")

    def admits(self, ae_title: str, address: str) -> bool:
        """Say whether this calling AE title may call from this address."""
        return not self.allowed_callers or any(each.admits(ae_title, address) for each in self.allowed_callers)


def _same_host(host: str, address: str) -> bool:
    caller = _plain(ipaddress.ip_address(address.partition("%")[0]))
    with contextlib.suppress(ValueError):
        network = ipaddress.ip_network(host, strict=False)
        if caller in network or network.num_addresses > 1:
            return caller in network
    named = _resolve(host, int(time.monotonic() // _RESOLUTION_SECONDS))
    if caller in named:
        return True
    # A peer beside us may be configured as localhost and call from the machine's own address, or the other way round.
    return any(_is_this_machine(each) for each in named) and _is_this_machine(caller)


def _is_this_machine(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Say whether an address is one of this machine's own: only those can be bound."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


@lru_cache(maxsize=256)
def _resolve(host: str, _period: int) -> frozenset[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the addresses of a name; none for one that cannot be resolved, which then admits nobody.

    Remembered for a period: a name server that is slow or down would otherwise hold up every association.
    """
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(_plain(ipaddress.ip_address(str(each[4][0]).partition("%")[0])) for each in answers)


def _plain(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address where a caller on an IPv6 socket arrives as ::ffff:a.b.c.d."""
    return getattr(address, "ipv4_mapped", None) or address
