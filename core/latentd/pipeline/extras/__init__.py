"""Postprocessing: the extras endpoints, and their steps on generated pictures."""
