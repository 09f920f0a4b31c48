"""S2CA-Net for nnU-Net v2."""
