"""What a server says of itself: to people, to programs, to Prometheus and to batch transform."""
