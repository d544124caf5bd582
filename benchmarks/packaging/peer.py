"""SageMaker's SDK v2, in an environment of its own."""

from benchmarks.serving.environments import Environment

SDK = Environment("sagemaker-2", ("sagemaker==2.257.*",))
