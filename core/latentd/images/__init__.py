"""Pictures as pure functions: codecs, masks, resizing, colour, grids, saving. Numpy and Pillow only."""
