"""Convert BraTS2019 to nnU-Net's raw format: `s2ca convert brats2019` as a module."""

import sys

from nnunetv2_s2ca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2019", *sys.argv[1:]]))
