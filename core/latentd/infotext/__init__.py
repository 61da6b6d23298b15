"""Infotext: the text that says how a picture was made. Built, parsed, and turned back into a request; all pure."""
