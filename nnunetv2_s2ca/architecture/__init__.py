"""S2CA-Net and its components; one file a component, nothing of nnU-Net."""
