"""Analysing the archive again at night."""
