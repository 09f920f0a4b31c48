"""The `s2ca` commands, one file each: arguments, one call of the public API, print."""
