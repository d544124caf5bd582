"""SageMaker's PyTorch model server (sagemaker-pytorch-inference) on TorchServe, started as its image does.

Two files that it keeps in ``/etc`` and in its package are taken from the folder it is run in: its own
configuration is written there, and the log is a quiet one.
"""

from pathlib import Path

from sagemaker_pytorch_serving_container import serving, torchserve

if __name__ == "__main__":
    torchserve.TS_CONFIG_FILE = str(Path("sagemaker-ts.properties").resolve())
    torchserve.DEFAULT_TS_LOG_FILE = str(Path("log4j2.xml").resolve())
    serving.main()
