"""Settings that every test shares."""

from __future__ import annotations

import os

# before numpy and torch start their threads: two cores are what a small machine has
os.environ.setdefault("OMP_NUM_THREADS", "2")
