"""Batches: the inputs of several requests become one call of the model.

What has queued up while the model was busy is a batch, so a lone request never waits for others unless
``max_batch_delay`` says so. Every request keeps its own content type, context, status and error: it is
parked between its input and its output, and what fails in company is tried again alone.
"""

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import attrs

from modelyard.core.contracts import BatchingHardware
from modelyard.core.errors import UserCodeError
from modelyard.core.log import get_logger
from modelyard.serving.model.context import BatchContext, Context
from modelyard.serving.waiting import parking
from modelyard.serving.waiting.interruption import Interrupted, Watch

Predict = Callable[[Any, Context], Any]
"""``predict_fn`` of a model: from an input and its context to the prediction."""

PredictMany = Callable[[list[Any], list[Context]], Sequence[Any]]
"""From the inputs of a batch, and their contexts, to their predictions in the same order."""

FAILURES = (Exception, SystemExit, Interrupted)
"""What a user's function may raise without its thread ending."""

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
    seconds that the first of a batch may wait for the others.
    """

    def __init__(self, predict: Predict, predict_many: PredictMany, *, size: int, delay: float = 0.0) -> None:
        self._predict = predict
        self._predict_many = predict_many
        self._size = size
        self._delay = delay
        self._waiting: list[_Waiting] = []

    def __call__(self, value: Any, context: Context) -> Any:
        """Return the prediction for one request, once that of its batch is made."""
        stack = parking.current()
        if stack is None:
            return self._predict(value, context)
        mine = _Waiting(value, context, stack, time.monotonic())
        self._waiting.append(mine)
        parking.park()
        if mine.error is not None:
            raise mine.error
        return mine.prediction

    @property
    def is_full(self) -> bool:
        """Whether the requests that wait make a whole batch."""
        return len(self._waiting) >= self._size

    def due_in(self) -> float | None:
        """Return in how many seconds a batch must be run, full or not; None where nobody waits."""
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0].since + self._delay - time.monotonic())

    def run(self, watch: Watch) -> int:
        """Predict for those who wait, and let them go on; return how many they were."""
        batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        if not self._together(batch, watch):
            for waiting in batch:
                self._alone(waiting, watch)
        for waiting in batch:
            waiting.stack.go_on()
        return len(batch)

    def _together(self, batch: list[_Waiting], watch: Watch) -> bool:
        """Predict for the whole batch; tell whether that went well."""
        if len(batch) == 1:
            return False
        values, contexts = [w.value for w in batch], [w.context for w in batch]
        deadline = min(waiting.stack.deadline for waiting in batch)
        try:
            predictions = watch.within(deadline, self._predict_many, values, contexts)
            for waiting, prediction in zip(batch, predictions, strict=True):
                waiting.prediction = prediction
        except FAILURES as error:
            _log.warning(
                "a batch failed: its requests are tried one by one", size=len(batch), error=str(error)
            )
            return False
        return True

    def _alone(self, waiting: _Waiting, watch: Watch) -> None:
        try:
            if time.monotonic() >= waiting.stack.deadline:
                raise Interrupted
            waiting.prediction = watch.within(
                waiting.stack.deadline, self._predict, waiting.value, waiting.context
            )
        except FAILURES as error:
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

    `hardware`: knows how to stack. A model whose prediction has not one row per row of its input is
    noticed, and called for each request by itself from then on.
    """

    def __init__(self, predict: Predict, hardware: BatchingHardware) -> None:
        self._predict = predict
        self._hardware = hardware
        self._stacks = True

    def __call__(self, values: list[Any], contexts: list[Context]) -> list[Any]:
        """Return the predictions for `values`."""
        predictions: list[Any] = [None] * len(values)
        for places in self._groups(values):
            grouped = self._grouped(
                [values[place] for place in places], [contexts[place] for place in places]
            )
            for place, prediction in zip(places, grouped, strict=True):
                predictions[place] = prediction
        return predictions

    def _groups(self, values: list[Any]) -> Iterable[list[int]]:
        """Return the places of values that go together; a value that goes with no other is alone."""
        groups: dict[Hashable, list[int]] = {}
        for place, value in enumerate(values):
            key = self._hardware.batch_key(value) if self._stacks else None
            groups.setdefault(object() if key is None else key, []).append(place)
        return groups.values()

    def _grouped(self, group: list[Any], contexts: list[Context]) -> Sequence[Any]:
        if len(group) == 1:
            return [self._predict(group[0], contexts[0])]
        stacked, sizes = self._hardware.stack(group)
        prediction = self._predict(stacked, BatchContext(contexts))
        try:
            return self._hardware.split(prediction, sizes)
        except ValueError as error:
            self._stacks = False
            _log.warning("the model does not batch: its requests are predicted one by one", reason=str(error))
            raise
