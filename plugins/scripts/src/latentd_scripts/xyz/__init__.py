"""The script ``X/Y/Z plot``: grids over one, two or three settings."""
