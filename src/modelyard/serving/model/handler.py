"""From a model's folder to the handler of its endpoint: what can be looked up is looked up here, once."""

import contextlib
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs

from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import Hardware
from modelyard.core.http import Handler
from modelyard.core.manager import PluginManager
from modelyard.serving.errors import MIDDLEWARE, DeviceWatch, answering
from modelyard.serving.model import user_functions, weights
from modelyard.serving.model.batching import Batcher
from modelyard.serving.model.blame import blamed
from modelyard.serving.model.context import Context, system_properties
from modelyard.serving.model.folder import ModelFolder
from modelyard.serving.model.steps import JSON, Defaults, batcher_of, compose, predict_of
from modelyard.serving.model.user_functions import UserFunctions


@attrs.frozen
class LoadedModel:
    """A model that is ready to be asked.

    ``handler``: what a request passes through; ``codecs``: of the default input and output;
    ``is_async``: whether a request may wait for an event loop; ``batcher``: where requests wait for
    each other, if they do; ``watch``: what finds out that the device is lost.
    """

    handler: Handler
    codecs: CodecTable
    is_async: bool = False
    batcher: Batcher | None = None
    watch: DeviceWatch = attrs.field(factory=DeviceWatch)


@attrs.frozen(kw_only=True)
class Options:
    """How a model is served, as far as its handler is concerned.

    ``default_accept``: what a client gets that does not say; ``strict``: the toolkit's version whose
    quirks are wanted; ``device``: the index of the device that the model is on; ``batch_size`` and
    ``max_batch_delay``: requests that are predicted at once, and seconds that one may wait for others;
    ``codecs``: options of codecs by their name; ``metrics``: what the context of the user's functions
    offers as such.
    """

    default_accept: str = JSON
    strict: str = ""
    device: int = 0
    batch_size: int = 1
    max_batch_delay: float = 0.0
    codecs: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    metrics: Any = None


def build_handler(
    folder: ModelFolder, plugins: PluginManager, hardware: Hardware, options: Options | None = None
) -> Handler:
    """Return the handler of `load_model`, which answers without a server: ``handler(Request(...))``."""
    return load_model(folder, plugins, hardware, options or Options()).handler


def load_model(
    folder: ModelFolder, plugins: PluginManager, hardware: Hardware, options: Options
) -> LoadedModel:
    """Load the model of a folder and put together what a request passes through.

    The model's folder becomes the working directory. Raises `UserCodeError` where the model cannot be
    loaded.
    """
    os.chdir(folder.root)
    with blamed("the inference script", folder):
        functions = user_functions.load(folder)
    gpu = None if hardware.device_type == "cpu" else options.device
    properties = system_properties(folder.root, gpu_id=gpu, batch_size=options.batch_size)
    context = partial(Context, properties, metrics=options.metrics)
    if hardware.device_type != "cpu":
        # From now on a device without a number is this worker's own, in the user's functions too.
        hardware.place([0.0], options.device)
    model = _load(functions, hardware, folder, context())
    plugins.model_loaded(model, folder.root)
    if functions.leaves_the_model_to_us or not functions.model_fn:
        model = hardware.place(model, options.device)
    if not (functions.input_fn or functions.transform_fn):
        with contextlib.suppress(ImportError):  # A request will say so.
            hardware.place([0.0], options.device)  # So that no request waits until torch is imported.
    if functions.model_warmup_fn:
        with blamed("model_warmup_fn", folder):
            functions.model_warmup_fn(str(folder.root), model, context())
    codecs = CodecTable.of(
        plugins.codecs,
        default_accept=options.default_accept,
        strict=options.strict,
        options=options.codecs,
    )
    batcher = batcher_of(functions, model, hardware, options.batch_size, options.max_batch_delay)
    predict = batcher or predict_of(functions, model, hardware)
    defaults = Defaults(codecs, hardware, options.device, strict=bool(options.strict))
    steps = compose(functions, model, predict, defaults)
    watch = DeviceWatch(hardware)
    handler = answering(lambda request: steps(request, context(request=request)), folder.defines, watch)
    wrapped = plugins.wrap_handler(handler)
    # Middleware sees answers, never exceptions; and its own exceptions are answered as well.
    handler = handler if wrapped is handler else answering(wrapped, source=MIDDLEWARE)
    return LoadedModel(handler, codecs, functions.are_async, batcher, watch)


def _load(functions: UserFunctions, hardware: Hardware, folder: ModelFolder, context: Context) -> object:
    if functions.pre_model_fn:
        with blamed("pre_model_fn", folder):
            functions.pre_model_fn(str(folder.root), context)
    if functions.model_fn:
        with blamed("model_fn", folder):
            return functions.model_fn(str(folder.root), context)
    model = weights.load(folder, functions.module) if functions.module else None
    return hardware.load(folder.root) if model is None else model
