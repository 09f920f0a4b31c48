"""Trained models: finding, reading, packing and installing them."""
