"""Postprocessing: the extras' requests, and that of generated pictures."""
