"""What compares and checks a bundle: other networks, robustness, heat maps."""
