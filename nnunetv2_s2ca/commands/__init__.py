"""The `s2ca` commands, a file each: arguments, one call of the public API, print."""
