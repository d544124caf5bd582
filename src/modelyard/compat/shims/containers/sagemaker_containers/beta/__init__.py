"""The namespace that user scripts import ``framework`` from."""
