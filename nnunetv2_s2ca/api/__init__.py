"""The public functions, which `nnunetv2_s2ca` exports; they combine the other packages."""
