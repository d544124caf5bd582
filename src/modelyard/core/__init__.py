"""The kernel: the nouns as Protocols, the hooks, the plugin manager and the plan values.

Nothing in here implements a noun, and nothing in here knows torch, numpy or an AWS client.
"""
