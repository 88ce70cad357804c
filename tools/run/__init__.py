"""Running: the notebooks, the sweeps, and what makes the shipped data."""
