"""Codecs: bytes of a media type to and from Python values."""
