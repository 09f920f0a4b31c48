"""Convert BraTS2024_PED to nnU-Net's raw format: `s2ca convert brats2024-ped` as a module."""

import sys

from nnunetv2_s2ca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "brats2024-ped", *sys.argv[1:]]))
