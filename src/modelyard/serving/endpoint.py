"""One worker's part of an endpoint: the application, what it says of itself, and what it counts."""

import functools
import gc
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from modelyard.__about__ import __version__
from modelyard.compat import add_serving_shims
from modelyard.core.contracts import Hardware, WorkerHardware
from modelyard.core.http import Response
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef
from modelyard.serving.engine import Engine
from modelyard.serving.http.app import Application, Page
from modelyard.serving.model.folder import ModelFolder
from modelyard.serving.model.handler import LoadedModel, Options, load_model
from modelyard.serving.pages import openapi, page
from modelyard.serving.pages.execution_parameters import execution_parameters
from modelyard.serving.pages.metrics import Metrics
from modelyard.serving.pages.user_metrics import UserMetrics
from modelyard.serving.processes.acceptor import PATIENCE
from modelyard.serving.processes.board import Board
from modelyard.serving.settings import ServerSettings


@attrs.frozen
class Endpoint:
    """What is served, and how: made in the parent, and made use of in each worker.

    ``name``: the endpoint's, if it has one; ``hardware``: what the model runs on.
    """

    folder: ModelFolder
    settings: ServerSettings
    plugins: PluginManager
    hardware: ProviderRef
    name: str = ""

    def application(self, index: int, workers: int, board: Board) -> Application:
        """Return the application of a worker, whose engine will load the model."""
        metrics = Metrics()
        hardware = self.plugins.hardware.create(self.hardware)
        if isinstance(hardware, WorkerHardware):
            os.environ.update(hardware.worker_environ(index))
        load = functools.partial(self._load, index, hardware, metrics)
        engine = Engine(load, self.settings, metrics)
        return Application(
            engine,
            metrics,
            max_body=self.settings.limits.max_body,
            pages=self._pages(engine, metrics, workers),
            name=self.name,
            is_ready=lambda: any(slot.serves(PATIENCE) for slot in board),
        )

    def _load(self, index: int, hardware: Hardware, metrics: Metrics) -> LoadedModel:
        began = time.monotonic()
        add_serving_shims()
        devices = hardware.device_count()
        options = Options(
            default_accept=self.settings.default_accept,
            strict=self.settings.strict,
            device=index % devices if devices else 0,
            batch_size=self.settings.batch_size,
            max_batch_delay=self.settings.max_batch_delay,
            codecs={"pickle": {"trusted": True}} if self.settings.trust_pickle else {},
            metrics=UserMetrics(metrics.registry),
        )
        loaded = load_model(self.folder, self.plugins, hardware, options)
        # A collection looks at everything that is not frozen, for a tenth of a second where torch is:
        # what is there now is there to stay.
        gc.collect()
        gc.freeze()
        metrics.loaded(time.monotonic() - began)
        return loaded

    def _pages(self, engine: Engine, metrics: Metrics, workers: int) -> dict[str, Page]:
        parameters = _json(execution_parameters(self.settings, workers))
        return {
            "/execution-parameters": lambda _: parameters(),
            "/metrics": lambda headers: _rendered(metrics, headers),
            "/openapi.json": lambda _: self._description(engine),
            "/docs": lambda _: page.page(),
        }

    def _description(self, engine: Engine) -> Response:
        if engine.loaded is None:
            return Response(engine.excuse.encode(), status=503)
        types = tuple(engine.loaded.codecs.by_type)
        facts = openapi.EndpointFacts(
            name=self.name or "endpoint",
            version=__version__,
            reads=types,
            writes=types,
            default_accept=self.settings.default_accept,
            max_body=self.settings.limits.max_body,
        )
        return _json(openapi.document(facts))()


def _json(value: Any) -> Callable[[], Response]:
    body = json.dumps(value).encode()
    return lambda: Response(body)


def _rendered(metrics: Metrics, headers: Mapping[str, str]) -> Response:
    return Response(*metrics.render(headers.get("accept", "")))
