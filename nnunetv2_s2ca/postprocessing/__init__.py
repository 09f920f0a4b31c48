"""The BraTS rules that clean up predictions, and how their sizes are found."""
