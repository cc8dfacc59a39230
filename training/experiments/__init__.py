"""What only the log of experiments needs: baselines, other networks, robustness, heat maps."""
