"""Convert brats2020 to nnU-Net's raw format: run this module with the download's folder."""

import sys

from nnunetv2_s2ca.dataset_conversion.as_module import convert_edition

if __name__ == "__main__":
    sys.exit(convert_edition("brats2020"))
