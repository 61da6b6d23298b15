"""Preprocessors: from a picture to a control map."""
