"""A training job's folder as its platform makes it, and the in-job program run on it."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from modelyard.core.handover import HOST_ADDRESSES
from modelyard.core.layout import BASE_DIR, JobLayout
from modelyard.core.listening import free_port
from modelyard.core.plans import TrainingPlan
from modelyard.testing.trees import read_tree, write_tree

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_OF_A_JOB = ("SAGEMAKER_", "SM_", "MASTER_")


@attrs.frozen
class JobFolder:
    """One host's ``/opt/ml``, elsewhere. ``layout``: its folders and files."""

    layout: JobLayout

    @classmethod
    def make(
        cls,
        base: Path,
        *,
        script: str = "",
        hyperparameters: Mapping[str, object] | None = None,
        channels: Mapping[str, Mapping[str, bytes]] | None = None,
        hosts: Sequence[str] = ("algo-1",),
        plan: TrainingPlan | None = None,
    ) -> "JobFolder":
        """Return a new folder at `base`, with the files that SageMaker writes.

        `script`: of ``code/train.py``; `hyperparameters`: encoded as SDK v2 does; `channels`: files by
        channel; `hosts`: of the job, this one first; `plan`: what modelyard says of the job, which
        chooses its hardware and launcher.
        """
        made = cls(JobLayout(base))
        made.layout.create()
        write_tree(made.layout.code, {"train.py": textwrap.dedent(script).encode()})
        given = {"sagemaker_program": "train.py", **(hyperparameters or {})}
        made.configure("hyperparameters", {name: json.dumps(value) for name, value in given.items()})
        machine = {"current_instance_type": "local", "network_interface_name": _LOOPBACK}
        made.configure("resourceconfig", {"current_host": hosts[0], "hosts": list(hosts), **machine})
        made.configure("inputdataconfig", {name: {"TrainingInputMode": "File"} for name in channels or {}})
        for name, files in (channels or {}).items():
            write_tree(made.layout.channel(name), files)
        if plan is not None:
            made.layout.plan.write_text(plan.to_json(), "utf-8")
        return made

    def configure(self, name: str, content: object) -> None:
        """Write ``input/config/<name>.json``."""
        (self.layout.config / f"{name}.json").write_text(json.dumps(content), "utf-8")

    @property
    def environ(self) -> dict[str, str]:
        """The variables that the in-job program is started with: those of this process, and the job's.

        The hosts are this machine: their names need not be resolved.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_OF_A_JOB)}
        resources = json.loads((self.layout.config / "resourceconfig.json").read_text("utf-8"))
        addresses = ",".join("127.0.0.1" for _ in resources["hosts"])
        port = str(free_port(count=2))  # The next one is the launcher's.
        told = {BASE_DIR: str(self.layout.base), HOST_ADDRESSES: addresses, "MASTER_PORT": port}
        return {**kept, **told, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(self, *, seconds: float = 60.0, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run the in-job program to its end, with these variables too.

        It finds the plugins that are installed, unless the test has the fixture ``plugins``.
        """
        return subprocess.run(
            [sys.executable, "-m", "modelyard.training"],
            env=self.environ | environ,
            cwd=self.layout.base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    @property
    def model(self) -> dict[str, bytes]:
        """The files that the script has saved as its model."""
        return read_tree(self.layout.model)

    @property
    def failure(self) -> str:
        """Why the job failed; empty where it did not."""
        path = self.layout.failure
        return path.read_text("utf-8") if path.exists() else ""
