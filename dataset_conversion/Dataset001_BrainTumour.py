"""Convert BrainTumour to nnU-Net's raw format: `s2ca convert msd-task01` as a module."""

import sys

from nnunetv2_s2ca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "msd-task01", *sys.argv[1:]]))
