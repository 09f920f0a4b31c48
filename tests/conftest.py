"""Settings that every test shares."""

from __future__ import annotations

import os

# before numpy and torch start their threads, which on small arrays cost more than they save
os.environ.setdefault("OMP_NUM_THREADS", "1")
