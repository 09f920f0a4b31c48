"""From a scanner's images of one patient to what BraTS' models expect, and back."""
