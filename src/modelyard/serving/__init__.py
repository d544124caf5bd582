"""In the endpoint: the user's functions, the handler around them, and the server that carries it.

The same code runs whether a local process, a container or SageMaker started it: a backend brings
the folder and the environment. ``python -m modelyard.serving`` is the in-endpoint program.
"""
