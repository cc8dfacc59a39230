"""Associations: what sending and receiving share."""
