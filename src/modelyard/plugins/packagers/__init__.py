"""Source and model archives."""
