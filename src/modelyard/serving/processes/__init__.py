"""The processes of a server: one that looks after the others, and what each of those is."""
