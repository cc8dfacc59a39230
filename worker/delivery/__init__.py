"""Sending reports to the PACS until it has committed to them."""
