"""The script ``Ultimate SD upscale``: a picture is enlarged, redrawn tile by tile, and its seams are redrawn."""
