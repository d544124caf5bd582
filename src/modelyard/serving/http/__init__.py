"""HTTP on one connection, and the application behind it."""
