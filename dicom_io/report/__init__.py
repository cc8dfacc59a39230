"""Structured Reports, secondary captures and presentation states."""
