"""Model files, recognition, loading, devices, and the manager of loaded models."""
