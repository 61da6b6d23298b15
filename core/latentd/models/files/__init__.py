"""Model files on disk: lists, hashes, headers, and readers of weight files."""
