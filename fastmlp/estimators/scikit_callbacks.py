"""Scikit-learn's own callbacks, of 1.9 and later: each epoch is a task of the fit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from ..callbacks import Callback
from ..history import History
from .networks import shown

__all__ = ["CallbackSupportMixin", "Tasks", "begun", "with_callbacks"]

Method = TypeVar("Method", bound=Callable[..., Any])

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """In place of scikit-learn's, which has no callbacks before 1.9."""

    def with_callbacks(method: Method) -> Method:
        """Return the method as it is."""
        return method


class Tasks(Callback):
    """Tells scikit-learn's callbacks of every epoch; they stop the fit by returning True."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any):
        self.estimator = estimator
        self.given: dict[str, Any] = {"estimator": estimator, "X": X, "y": y}
        if sample_weight is not None:
            self.given["metadata"] = {"sample_weight": sample_weight}
        self.root = estimator._init_callback_context(max_subtasks=estimator.max_iter)
        self.epoch: Any = None
        self.root.call_on_fit_task_begin(**self.given)

    def _begin(self, net: Any) -> None:
        self.epoch = self.root.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.given, **self._now(net))

    def _now(self, net: Any) -> dict[str, Any]:
        """Say how to make an estimator that is fitted so far."""

        def attributes() -> dict[str, Any]:
            own = copy.deepcopy(net)
            return {"_net": own, **shown(own)}

        return {"reconstruction_attributes": attributes}

    def on_fit_start(self, history: History, net: Any) -> None:
        """Begin the first epoch's task."""
        self._begin(net)

    def on_epoch_end(self, epoch: int, history: History, net: Any) -> bool | None:
        """End the epoch's task and begin the next one."""
        stop = bool(self.epoch.call_on_fit_task_end(**self.given, **self._now(net)))
        self.epoch = None
        if not stop and epoch < self.estimator.max_iter:
            self._begin(net)
        return stop

    def on_fit_end(self, history: History, net: Any) -> None:
        """End a task that another callback's stop has left open."""
        if self.epoch is not None:
            self.epoch.call_on_fit_task_end(estimator=self.estimator)

    def close(self, net: Any) -> None:
        """End the task of the whole fit."""
        self.root.call_on_fit_task_end(**self.given, **self._now(net))


def begun(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Tasks | None:
    """Return what tells scikit-learn's callbacks, or None where none are set."""
    if not getattr(estimator, "_skl_callbacks", None):
        return None
    return Tasks(estimator, X, y, sample_weight)
