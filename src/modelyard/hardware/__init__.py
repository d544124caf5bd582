"""Kinds of device: count it, talk over it, put a model on it."""
