"""Convert BraTS2023_MET to nnU-Net's raw format: `s2ca convert brats2023-met` as a module."""

import sys

from nnunetv2_s2ca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2023-met", *sys.argv[1:]]))
