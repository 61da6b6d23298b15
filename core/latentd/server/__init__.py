"""The HTTP server: application, schemas, authentication, routes. No torch."""
