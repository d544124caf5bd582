"""In the job: read the environment, launch the script, supervise it, record what became of it.

The same code runs whether a local process, a container or SageMaker started it: a backend brings
the folder and the environment. ``python -m modelyard.training`` is the in-job program.
"""
