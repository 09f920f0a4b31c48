"""Progress of the public functions, through Python's logging under the package's name."""

import logging

report = logging.getLogger("nnunetv2_s2ca").info
