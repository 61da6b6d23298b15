"""One module a family of endpoints; each has ``router(services)``."""
