"""Which model bundle answers, and how that changes."""
