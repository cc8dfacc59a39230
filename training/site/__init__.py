"""Fitting the shipped model to a site's own images."""
