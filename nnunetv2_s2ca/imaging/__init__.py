"""One patient's scans: reading NIfTI and DICOM, orientation, grids."""
