"""Read by each Python process that a test starts: hides packages that only the oracles of the tests need.

A user's environment does not have them, and Transformers imports them wherever they are found: 2 s of each actor's
start.
"""

import sys

for package in ("sklearn", "scipy"):
    sys.modules[package] = None  # type: ignore[assignment]
