"""`s2ca demo`: synthetic patients through the whole chain, by the users' own commands."""
