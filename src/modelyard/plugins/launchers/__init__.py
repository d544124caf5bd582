"""From an entry point to the command that one host runs."""
