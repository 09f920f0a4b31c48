"""Programs that measure, and write what they find to `results/`."""
