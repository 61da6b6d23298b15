"""Prompts become tensors: textual inversion, text encoding, and conditioning over the sampling steps."""
