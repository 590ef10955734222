"""What the `data` and `train` sections say, read and checked without torch."""
