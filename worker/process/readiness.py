"""How a service says that it is ready: systemd's notification protocol, a datagram to the socket in NOTIFY_SOCKET.

`bonewatch up` listens on such a socket for every role, and a role under systemd (`Type=notify`) needs nothing more.
See sd_notify(3).
"""

from __future__ import annotations

import os
import socket
import uuid

READY = b"READY=1"
VARIABLE = "NOTIFY_SOCKET"


def announce_ready() -> None:
    """Tell whoever started this process that it is ready; without NOTIFY_SOCKET nobody asked."""
    address = os.environ.get(VARIABLE)
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        try:
            notifier.sendto(READY, _kernel_address(address))
        except OSError:  # the starter is gone or no longer interested; the service itself is well
            return


class ReadinessSocket:
    """The listening end: `address` goes into the child's NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self.address = f"@bonewatch-{uuid.uuid4().hex}"  # abstract: nothing on disk to be left behind
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(_kernel_address(self.address))
        self._socket.setblocking(False)
        self._heard = False

    def heard(self) -> bool:
        """Say whether the child has announced itself."""
        try:
            while not self._heard:
                self._heard = READY in self._socket.recv(4096).split(b"\n")
        except BlockingIOError:
            pass
        return self._heard

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()


def _kernel_address(address: str) -> str:
    """Return the address as the kernel wants it: an abstract name begins with a zero byte instead of the @."""
    return f"\0{address[1:]}" if address.startswith("@") else address
