"""Tasks: where prompts and training texts come from, and the small models that are made from scratch."""
