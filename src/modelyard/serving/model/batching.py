"""Batches: the inputs of several requests become one call of the model.

What has queued up while the model was busy is a batch, so a lone request never waits for others unless
``max_batch_delay`` says so. Every request keeps its own content type, context, status and error: it is
parked between its input and its output, and what fails in company is tried again alone.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import attrs

from modelyard.core.contracts import BatchingHardware
from modelyard.core.errors import UserCodeError
from modelyard.core.log import get_logger
from modelyard.serving.model.context import BatchContext, Context
from modelyard.serving.waiting import parking
from modelyard.serving.waiting.interruption import Interrupted, Interrupter

Predict = Callable[[Any, Context], Any]
"""``predict_fn`` of a model: from an input and its context to the prediction."""

PredictMany = Callable[[list[Any], list[Context]], Sequence[Any]]
"""From the inputs of a batch, and their contexts, to their predictions in the same order."""

_KINDS = 1000
"""How many kinds of inputs that do not batch are remembered: clients choose the shapes."""

_log = get_logger(__name__)


@attrs.define(eq=False)
class _Waiting:
    """A parked request: its input, and what becomes of it."""

    value: Any
    context: Context
    stack: parking.Stack
    since: float
    prediction: Any = None
    error: BaseException | None = None


class Batcher:
    """Stands where ``predict_fn`` stands, and calls it for several requests at once.

    `predict`: for one; `predict_many`: for a batch; `size`: requests in a batch at most; `delay`:
    seconds that the first of a batch may wait for the others. ``on_wait``: called when a request waits.
    """

    def __init__(self, predict: Predict, predict_many: PredictMany, *, size: int, delay: float = 0.0) -> None:
        self._predict = predict
        self._predict_many = predict_many
        self._size = size
        self._delay = delay
        self._waiting: list[_Waiting] = []
        self.on_wait: Callable[[], None] = lambda: None

    def __call__(self, value: Any, context: Context) -> Any:
        """Return the prediction for one request, once that of its batch is made."""
        stack = parking.current()
        if stack is None:
            return self._predict(value, context)
        mine = _Waiting(value, context, stack, time.monotonic())
        self._waiting.append(mine)
        self.on_wait()
        parking.park()
        if mine.error is not None:
            raise mine.error
        return mine.prediction

    @property
    def is_full(self) -> bool:
        """Whether the requests that wait make a whole batch."""
        return len(self._waiting) >= self._size

    @property
    def next_size(self) -> int:
        """How many requests the next batch has."""
        return min(len(self._waiting), self._size)

    def due_in(self) -> float | None:
        """Return in how many seconds a batch must be run, full or not; None where nobody waits."""
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0].since + self._delay - time.monotonic())

    def run(self, interrupter: Interrupter) -> None:
        """Predict for those who wait, and let them go on."""
        batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        if not self._together(batch, interrupter):
            for waiting in batch:
                self._alone(waiting, interrupter)
        for waiting in batch:
            waiting.stack.go_on()

    def _together(self, batch: list[_Waiting], interrupter: Interrupter) -> bool:
        """Predict for the whole batch; tell whether that went well."""
        if len(batch) == 1:
            return False
        values, contexts = [w.value for w in batch], [w.context for w in batch]
        deadline = min(waiting.stack.deadline for waiting in batch)
        try:
            predictions = interrupter.within(deadline, self._predict_many, values, contexts)
            for waiting, prediction in zip(batch, predictions, strict=True):
                waiting.prediction = prediction
        except BaseException as error:  # noqa: BLE001 - found out below, request by request
            _log.warning(
                "a batch failed: its requests are tried one by one", size=len(batch), error=str(error)
            )
            return False
        return True

    def _alone(self, waiting: _Waiting, interrupter: Interrupter) -> None:
        try:
            if time.monotonic() >= waiting.stack.deadline:
                raise Interrupted  # noqa: TRY301 - as if it had begun
            waiting.prediction = interrupter.within(
                waiting.stack.deadline, self._predict, waiting.value, waiting.context
            )
        except BaseException as error:  # noqa: BLE001 - raised where it belongs, in the request
            waiting.error = error


class Listed:
    """A `PredictMany` over the user's ``batch_predict_fn(inputs, model)``."""

    def __init__(self, function: Callable[..., Any], model: Any) -> None:
        self._function = function
        self._model = model

    def __call__(self, values: list[Any], contexts: list[Context]) -> Sequence[Any]:
        """Return the predictions for `values`. Raises `UserCodeError` where they are not as many."""
        predictions: Sequence[Any] = self._function(values, self._model, BatchContext(contexts))
        if len(predictions) != len(values):
            raise UserCodeError(
                f"batch_predict_fn was given {len(values)} inputs and returned {len(predictions)} "
                "predictions: it must return one for each input, in their order"
            )
        return predictions

    def one(self, value: Any, context: Context) -> Any:
        """Return the prediction for a batch of one."""
        return self([value], [context])[0]


class Stacker:
    """A `PredictMany` over a ``predict_fn``: inputs of one kind are stacked, and predictions cut up.

    `hardware`: knows how to stack. Inputs of a kind whose prediction has not one row per row of input
    are noticed, and predicted one by one from then on.
    """

    def __init__(self, predict: Predict, hardware: BatchingHardware) -> None:
        self._predict = predict
        self._hardware = hardware
        self._apart: set[Hashable] = set()

    def __call__(self, values: list[Any], contexts: list[Context]) -> list[Any]:
        """Return the predictions for `values`."""
        predictions: list[Any] = [None] * len(values)
        for key, places in self._groups(values).items():
            group, theirs = [values[place] for place in places], [contexts[place] for place in places]
            for place, prediction in zip(places, self._grouped(key, group, theirs), strict=True):
                predictions[place] = prediction
        return predictions

    def _groups(self, values: list[Any]) -> dict[Hashable, list[int]]:
        """Return the places of values that go together; a value that goes with no other is alone."""
        groups: dict[Hashable, list[int]] = {}
        for place, value in enumerate(values):
            key = self._hardware.batch_key(value)
            alone = key is None or key in self._apart
            groups.setdefault(object() if alone else key, []).append(place)
        return groups

    def _grouped(self, key: Hashable, group: list[Any], contexts: list[Context]) -> Sequence[Any]:
        if len(group) == 1:
            return [self._predict(group[0], contexts[0])]
        stacked, sizes = self._hardware.stack(group)
        prediction = self._predict(stacked, BatchContext(contexts))
        try:
            return self._hardware.split(prediction, sizes)
        except ValueError as error:
            if len(self._apart) < _KINDS:
                self._apart.add(key)
            _log.warning("such inputs do not batch: they are predicted one by one", reason=str(error))
            raise
