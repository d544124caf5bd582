"""Waiting, and ending what does not, on the thread of a model."""
