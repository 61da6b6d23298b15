"""Fuzzers of what reads files of strangers: ``python -m tests.fuzz pickles --seconds 600`` (``make fuzz``)."""
