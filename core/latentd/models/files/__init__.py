"""What lies on disk: listing, hashes, headers, and the readers of weight files."""
