"""Kinds of control, one module each: from the file's keys to the UNet hook."""
