"""A trained model as a container for the BraTS challenge."""
