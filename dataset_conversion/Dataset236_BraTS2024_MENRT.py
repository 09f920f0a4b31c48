"""Convert BraTS2024_MENRT to nnU-Net's raw format: `s2ca convert brats2024-men-rt` as a module."""

import sys

from nnunetv2_s2ca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2024-men-rt", *sys.argv[1:]]))
