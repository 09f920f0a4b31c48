"""Synthetic BraTS patients, for the demo and for tests."""
