"""From one patient's scans to a segmentation in their own space, through nnU-Net's predictor."""
