"""Convert BraTS2023_SSA to nnU-Net's raw format: `s2ca convert brats2023-ssa` as a module."""

import sys

from nnunetv2_s2ca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2023-ssa", *sys.argv[1:]]))
