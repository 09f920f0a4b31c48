"""Converters between BraTS or MSD folders and nnU-Net's raw format."""
