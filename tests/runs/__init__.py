"""Whole runs. A package, so that their Ray cluster ends with them."""
