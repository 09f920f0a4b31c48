"""Hostile inputs, full disks and kills: nothing lost, nothing wrong, no traceback."""
