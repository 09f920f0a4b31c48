"""The BraTS rules that clean up predictions, and the fit of their sizes."""
