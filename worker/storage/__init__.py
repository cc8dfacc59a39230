"""The stores in use, and files that are removed or found without a row."""
