"""Convert BraTS2018 to nnU-Net's raw format: `s2ca convert brats2018` as a module."""

import sys

from nnunetv2_s2ca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2018", *sys.argv[1:]]))
