"""Looking at reward models and their credits without a run: one response explained, a model probed. Needs no Ray."""
