"""The listener: who may send, what is taken, and what the peer is answered."""
