"""Read by each Python process that a test starts: hides scikit-learn, which only the oracles of the tests need.

A user's environment does not have it, and transformers imports it wherever it is found: 1.5 s of each actor's start.
"""

import sys

sys.modules["sklearn"] = None  # type: ignore[assignment]
