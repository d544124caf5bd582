"""From a model's folder to the handler of its endpoint: what can be looked up is looked up here, once."""

import os
from pathlib import Path

from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import Hardware
from modelyard.core.http import Handler
from modelyard.core.log import get_logger
from modelyard.core.manager import PluginManager
from modelyard.serving import user_functions
from modelyard.serving.context import Context, system_properties
from modelyard.serving.errors import answering, blamed
from modelyard.serving.steps import JSON, compose

_log = get_logger(__name__)


def build_handler(
    model_dir: Path,
    plugins: PluginManager,
    hardware: Hardware,
    *,
    program: str | None = None,
    default_accept: str = JSON,
) -> Handler:
    """Load the model of `model_dir` and return the handler of its endpoint.

    `program`: the inference script, ``inference.py`` if there is one; `default_accept`: what a
    client gets that does not say. The model's folder becomes the working directory. Raises
    `UserCodeError` where the model cannot be loaded.
    """
    root = _unwrapped(model_dir).absolute()
    os.chdir(root)
    with blamed("the inference script", root):
        functions = user_functions.load(root, program)
    properties = system_properties(root)
    if functions.model_fn:
        with blamed("model_fn", root):
            model = functions.model_fn(str(root), Context(properties))
    else:
        model = hardware.load(root)
    plugins.model_loaded(model, root)
    if not functions.predict_fn and not functions.transform_fn:
        model = hardware.place(model)
    codecs = CodecTable.of(plugins.codecs, default_accept=default_accept)
    steps = compose(functions, model, codecs, hardware)
    # Middleware sees answers, never exceptions; and its own exceptions are answered as well.
    return answering(
        plugins.wrap_handler(answering(lambda request: steps(request, Context(properties, request))))
    )


def _unwrapped(model_dir: Path) -> Path:
    """Return the model's folder: the only folder in it, where an archive was made from its parent."""
    entries = list(model_dir.iterdir())
    if len(entries) != 1 or not entries[0].is_dir() or entries[0].name == "code":
        return model_dir
    _log.warning("the archive was made from the parent of the model's folder", folder=entries[0].name)
    return entries[0]
