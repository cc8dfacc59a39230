"""kombu's Redis transport, without its way of stopping for good when the broker restarts at the wrong moment.

A worker takes no more messages than it may hold unacknowledged: with late acknowledgement and a prefetch of one, that
is one a process. kombu forgets a message only *after* the broker has taken its acknowledgement (seen in 5.6 and 5.7).
A broker that is restarted while a task runs does not take it; Celery logs "Couldn't ack" and goes on, the message
counts as held for ever, and the worker never asks for another one, nor notices that its connection is gone.

Here the message is forgotten in either case. In Redis it stays among the unacknowledged ones and comes back after the
visibility timeout, to find nothing to claim.
"""

from __future__ import annotations

from kombu.transport import TRANSPORT_ALIASES, redis, virtual


class QoS(redis.QoS):  # type: ignore[misc]
    """Which messages a worker holds."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; hold it no longer, whatever the broker answers."""
        try:
            super().ack(delivery_tag)
        except redis.Transport.connection_errors:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back or drop it; hold it no longer, whatever the broker answers."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        except redis.Transport.connection_errors:
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(redis.Channel):  # type: ignore[misc]
    """A channel that counts as above."""

    QoS = QoS


class Transport(redis.Transport):  # type: ignore[misc]
    """A transport of such channels."""

    Channel = Channel


def use() -> None:
    """Let URLs that begin with redis or rediss mean this transport, in this process."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:{Transport.__name__}"))
