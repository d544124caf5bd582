"""``from modelyard.debugger import TensorBoardOutputConfig``: the import path of SDK v2."""

import attrs


@attrs.frozen
class TensorBoardOutputConfig:
    """Where SageMaker puts what a script writes for TensorBoard, below ``container_local_output_path``."""

    s3_output_path: str
    container_local_output_path: str | None = None

    def _to_request_dict(self) -> dict[str, str]:
        local = self.container_local_output_path
        return {"S3OutputPath": self.s3_output_path, **({"LocalPath": local} if local else {})}


__all__ = ["TensorBoardOutputConfig"]
