"""A landing zone on an HTTP server."""
