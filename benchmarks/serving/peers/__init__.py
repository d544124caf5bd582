"""One small program per peer, each run by the Python of its own environment.

They import nothing of modelyard, and say what a user would write who follows the peer's documentation.
"""
