"""Infotext, the text that says how a picture was made: building, parsing, and turning it back into a request.

All functions are pure.
"""
