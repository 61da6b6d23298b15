"""Model files, recognition, loading, devices, and the owner of everything that is loaded."""
