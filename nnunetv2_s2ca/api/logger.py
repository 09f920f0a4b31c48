"""Where the public functions report progress: Python's logging, under the package's name."""

import logging

report = logging.getLogger("nnunetv2_s2ca").info
