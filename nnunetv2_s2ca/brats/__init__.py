"""What a BraTS edition is: labels, regions, file names."""
