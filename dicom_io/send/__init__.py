"""Storing reports in the PACS, and asking it to commit to them."""
