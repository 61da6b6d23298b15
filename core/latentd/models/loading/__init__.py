"""From a weight file or folder to modules: recognising, renaming, building."""
