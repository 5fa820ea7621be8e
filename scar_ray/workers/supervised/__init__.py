"""Supervised training under DeepSpeed, in this process: policies on text, reward models on labelled text."""
