"""Train a digit classifier, deploy it and ask it: on this machine, with the two scripts in `src`."""

import argparse
import sys
from pathlib import Path

import numpy as np

from modelyard import PyTorch

HERE = Path(__file__).parent
ACCELERATORS = ("cuda", "trainium")
LEAST_ACCURACY = 0.95


def main() -> int:
    """Return the exit status: 0 if the endpoint answers alike in three formats, and well."""
    parser = argparse.ArgumentParser(description="Train, deploy and ask a classifier of handwritten digits.")
    parser.add_argument("--hardware", help="cpu, cuda or trainium; without it, what this machine has")
    hardware = parser.parse_args().hardware

    held_out = np.loadtxt(HERE / "data/test/digits.csv.gz", delimiter=",", dtype=np.float32)
    images, labels = held_out[:, :-1], held_out[:, -1]

    estimator = PyTorch(
        entry_point="train.py",
        source_dir=HERE / "src",
        hyperparameters={"epochs": 20, "batch-size": 64, "learning-rate": 0.05},
        instance_type="local",
        instance_count=1,
        hardware=hardware,
    )
    if estimator.plan().hardware.name in ACCELERATORS:
        estimator.distribution = {"torchrun": {}}  # A process for each of them.
    estimator.fit({"train": HERE / "data/train"})

    with estimator.deploy(
        initial_instance_count=1, instance_type="local", entry_point="inference.py", hardware=hardware
    ) as predictor:
        scores = predictor.predict(images)
        for media_type in ("application/json", "text/csv"):
            answer = predictor.predict(images, content_type=media_type, accept=media_type)
            np.testing.assert_allclose(np.asarray(answer, np.float32), scores, rtol=1e-4, atol=1e-4)

    accuracy = float(np.mean(np.argmax(scores, axis=1) == labels))
    print(
        f"quickstart: accuracy {accuracy:.2f} on {len(labels)} held-out digits; "
        f"model at {estimator.model_data}"
    )
    return 0 if accuracy >= LEAST_ACCURACY else 1


if __name__ == "__main__":
    sys.exit(main())
