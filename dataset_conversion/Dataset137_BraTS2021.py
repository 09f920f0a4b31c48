"""Convert BraTS2021 to nnU-Net's raw format: `s2ca convert brats2021` as a module."""

import sys

from nnunetv2_s2ca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2021", *sys.argv[1:]]))
