"""The authors' released weights: reading them and translating their names."""
