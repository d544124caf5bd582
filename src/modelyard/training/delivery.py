"""What a job leaves, packed and brought to where the platform wants it.

``python -m modelyard.training.delivery [--model] BASE...`` does so for all hosts of a job, once they have
ended: their models become one ``model.tar.gz``, as on SageMaker.
"""

import filecmp
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from modelyard.core import log
from modelyard.core.carrier import ARCHIVE, storage_for
from modelyard.core.contracts import Packager
from modelyard.core.errors import ModelyardError
from modelyard.core.handover import OUTPUT_URI, clip, end_with_guard
from modelyard.core.layout import JobLayout
from modelyard.core.log import get_logger
from modelyard.core.manager import PluginManager
from modelyard.core.plans import TrainingPlan
from modelyard.training import failure, masking

MODEL = "--model"
"""The argument that says that the scripts succeeded."""

_log = get_logger("modelyard.training.delivery")


@attrs.frozen
class Delivery:
    """Brings archives below ``uri``."""

    uri: str
    packager: Packager
    plugins: PluginManager

    def run(self, layout: JobLayout, *, model: bool) -> None:
        """Pack and upload the output, if there is any, and with `model` the model, even an empty one.

        Raises `PackagingError` and `StorageError`.
        """
        layout.create()  # The script may have removed a folder that it had no use for.
        if model:
            if not _has_content(layout.model):
                _log.warning("the script saved nothing in SM_MODEL_DIR: its model is empty")
            self._bring(layout.model, f"model{ARCHIVE}", layout.base)
        if _has_content(layout.output_data):
            self._bring(layout.output_data, f"output{ARCHIVE}", layout.base)

    def _bring(self, folder: Path, name: str, scratch: Path) -> None:
        with TemporaryDirectory(prefix="artifacts-", dir=scratch) as packed:
            bundle = self.packager.pack_tree(folder, Path(packed, name))
            storage_for(self.plugins, self.uri).upload(bundle.path, f"{self.uri}/{name}")


def gather(layouts: Sequence[JobLayout]) -> None:
    """Move the other hosts' models and output beside those of the first host, whose files stay."""
    first, *others = layouts
    for other in others:
        _move(other.model, first.model)
        _move(other.output_data, first.output_data)


def _move(source: Path, target: Path) -> None:
    for file in sorted(path for path in source.rglob("*") if path.is_symlink() or not path.is_dir()):
        place = target / file.relative_to(source)
        if _is_free(place, target):
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)
        elif not _are_equal(file, place):
            _log.warning("hosts have saved different files of one name; the first's counts", file=str(place))


def _is_free(place: Path, folder: Path) -> bool:
    """Tell whether nothing is at `place` in `folder`, nor a file where a folder above it would be."""
    above = (parent for parent in place.parents if parent.is_relative_to(folder))
    return not os.path.lexists(place) and not any(os.path.lexists(p) and not p.is_dir() for p in above)


def _are_equal(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def _has_content(folder: Path) -> bool:
    return any(folder.iterdir())


def main(arguments: Sequence[str]) -> int:
    """Deliver for the hosts whose ``/opt/ml`` the arguments name, ``--model`` too; return the exit code."""
    end_with_guard()
    log.configure()
    layouts = [JobLayout(Path(base)) for base in arguments if base != MODEL]
    plugins = PluginManager.discover()
    try:
        plan = TrainingPlan.from_json(layouts[0].plan.read_bytes())
        gather(layouts)
        uri = os.environ[OUTPUT_URI].rstrip("/")
        Delivery(uri, plugins.packagers.create(plan.packager), plugins).run(
            layouts[0], model=MODEL in arguments
        )
    except (ModelyardError, OSError) as error:
        reason = masking.masked(str(error), masking.secrets_of(layouts[0], os.environ))
        said = clip(f"what the job left cannot be delivered: {reason}")
        failure.record(layouts[0].failure, said)
        sys.stderr.write(f"modelyard: {said}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
