"""From trained parts to a bundle with its model card and the report on it."""
