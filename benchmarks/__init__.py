"""Programs that measure, and write to `results/`."""
