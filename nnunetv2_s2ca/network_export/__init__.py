"""Trained networks as files for other programs, and what goes with them."""
