"""One module for each family of endpoints; each has ``router(services)``."""
