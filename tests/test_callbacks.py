"""Callbacks and the progress line."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import (
    MLP,
    SGD,
    Callback,
    Checkpoint,
    CSVLogger,
    DivergenceError,
    EarlyStopping,
    ExponentialDecay,
    History,
    ReduceOnPlateau,
    TimeLimit,
)
from fastmlp.progress import Progress

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)
HELD = RNG.normal(size=(20, 3))
HELD_Y = RNG.integers(0, 2, 20)


def _net(backend: str, **arguments: Any) -> MLP:
    chosen = {"dtype": "float64", "seed": 1, "optimizer": SGD(0.1), **arguments}
    return MLP((3, 8, 2), backend=backend, **chosen)


def _same(one: MLP, other: MLP) -> None:
    for name, array in one.parameters.items():
        np.testing.assert_array_equal(array, other.parameters[name], err_msg=name)


class Recorder(Callback):
    """Writes down when it is called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_fit_start(self, history: Any, net: Any) -> None:
        self.calls.append(("start", len(history)))

    def on_epoch_end(self, epoch: int, history: Any, net: Any) -> bool:
        self.calls.append(("epoch", epoch, len(history)))
        return False

    def on_fit_end(self, history: Any, net: Any) -> None:
        self.calls.append(("end", len(history)))


# Functions and the base class


def test_when_callbacks_are_called(backend: str) -> None:
    recorder, seen = Recorder(), []
    net = _net(backend)
    history = net.fit(X, Y, epochs=2, callbacks=[recorder, lambda *given: seen.append(given)])
    assert recorder.calls == [("start", 0), ("epoch", 1, 1), ("epoch", 2, 2), ("end", 2)]
    assert seen == [(1, history, net), (2, history, net)]


@pytest.mark.parametrize("answer", [True, np.True_])
def test_true_stops(answer: Any, backend: str) -> None:
    recorder = Recorder()
    stops = [lambda epoch, history, net: answer if epoch == 2 else None, recorder]
    assert len(_net(backend).fit(X, Y, epochs=9, callbacks=stops)) == 2
    assert recorder.calls[-2:] == [("epoch", 2, 2), ("end", 2)]


@pytest.mark.parametrize("answer", [None, False, 1, "yes", [1], np.ones(3)])
def test_nothing_else_stops(answer: Any, backend: str) -> None:
    history = _net(backend).fit(X, Y, epochs=3, callbacks=[lambda *given: answer])
    assert len(history) == 3


def test_the_end_comes_whatever_ended_it(backend: str) -> None:
    recorder = Recorder()
    net = MLP((3, 4, 1), loss="mse", optimizer=SGD(1e6), backend=backend, seed=0)
    with pytest.raises(DivergenceError):
        net.fit(X, X[:, 0], epochs=50, callbacks=[recorder])
    assert recorder.calls[-1][0] == "end"

    def interrupts(epoch: int, history: Any, net: Any) -> None:
        raise KeyboardInterrupt

    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        _net(backend).fit(X, Y, callbacks=[interrupts, recorder])
    assert recorder.calls == [("start", 0), ("end", 1)]


def test_every_end_comes_even_if_one_fails(backend: str) -> None:
    class Fails(Callback):
        def on_fit_end(self, history: Any, net: Any) -> None:
            raise OSError("no")

    recorder = Recorder()
    with pytest.raises(OSError, match="no"):
        _net(backend).fit(X, Y, epochs=1, callbacks=[Fails(), recorder])
    assert recorder.calls[-1] == ("end", 1)


def test_an_objection_at_the_start_changes_nothing(backend: str) -> None:
    class Objects(Callback):
        def on_fit_start(self, history: Any, net: Any) -> None:
            assert net.optimizer.momentum == 0.5
            raise ValueError("not so")

    net, twin = (_net(backend, optimizer="adam") for _ in range(2))
    for trained in (net, twin):
        trained.fit(X, Y, epochs=2)
    before = net.history
    with pytest.raises(ValueError, match="not so"):
        net.fit(X, Y, optimizer=SGD(0.1, momentum=0.5), callbacks=[Objects()])
    assert net.history is before
    assert (net.steps, net.epochs, net.optimizer) == (twin.steps, twin.epochs, twin.optimizer)
    for trained in (net, twin):
        trained.fit(X, Y, epochs=2)
    _same(net, twin)


def test_callbacks_may_assign_parameters(backend: str) -> None:
    net, start = _net(backend), _net(backend).weights

    def back(epoch: int, history: Any, net: MLP) -> None:
        net.weights = start

    net.fit(X, Y, epochs=3, callbacks=[back])
    for found, wanted in zip(net.weights, start, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_callbacks_may_set_the_learning_rate(backend: str) -> None:
    def halve(epoch: int, history: Any, net: MLP) -> None:
        net.learning_rate = net.learning_rate / 2

    history = _net(backend).fit(X, Y, epochs=3, callbacks=[halve])
    assert history.learning_rate == [0.1, 0.05, 0.025]


def test_slices_call_back(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.training.SLICE_SECONDS", 1e-9)
    counts = []

    class Stops(Callback):
        def on_slice_end(self, history: Any, net: Any) -> bool:
            counts.append(net.steps)
            return net.steps == 3

    net, recorder = _net(backend), Recorder()
    history = net.fit(X, Y, epochs=5, batch_size=4, shuffle=False, callbacks=[Stops(), recorder])
    assert counts == [1, 2, 3]
    assert (net.steps, net.epochs, len(history)) == (3, 0, 0)
    assert recorder.calls == [("start", 0), ("end", 0)]
    twin = _net(backend)
    for start in (0, 4, 8):
        twin.train_on_batch(X[start : start + 4], Y[start : start + 4])
    for name, array in net.parameters.items():
        np.testing.assert_allclose(array, twin.parameters[name], rtol=1e-12)


# Early stopping


def test_early_stopping(backend: str) -> None:
    stopping = EarlyStopping(patience=4)
    net = _net(backend, optimizer=SGD(0.5))
    history = net.fit(X, Y, epochs=500, callbacks=[stopping], validation_data=(HELD, HELD_Y))
    best = int(np.argmin(history.validation_loss))
    assert len(history) == best + 5 < 500
    assert stopping.best_epoch == best + 1
    assert net.evaluate(HELD, HELD_Y)["loss"] == history.validation_loss[best]


def test_early_stopping_restores_at_the_last_epoch_too(backend: str) -> None:
    net = _net(backend, optimizer=SGD(0.5), normalization="batch")
    history = net.fit(
        X, Y, epochs=20, callbacks=[EarlyStopping(patience=100)], validation_data=(HELD, HELD_Y)
    )
    assert len(history) == 20
    assert net.evaluate(HELD, HELD_Y)["loss"] == min(history.validation_loss)


def test_early_stopping_restores_after_divergence(backend: str) -> None:
    def rate(step: int, epoch: int) -> float:
        return 0.05 if epoch < 3 else 1e200

    net = MLP((3, 8, 1), loss="mse", optimizer=SGD(rate), dtype="float64", backend=backend, seed=0)
    held = (HELD, HELD[:, 0])
    with pytest.raises(DivergenceError):
        net.fit(X, X[:, 0], epochs=9, callbacks=[EarlyStopping()], validation_data=held)
    assert net.history is not None
    assert net.evaluate(*held)["loss"] == min(net.history.validation_loss)


def test_early_stopping_can_leave_the_last_epoch(backend: str) -> None:
    net, twin = _net(backend, optimizer=SGD(0.5)), _net(backend, optimizer=SGD(0.5))
    callbacks = [EarlyStopping(patience=3, restore_best=False)]
    history = net.fit(X, Y, epochs=500, callbacks=callbacks, validation_data=(HELD, HELD_Y))
    assert len(history) < 500
    twin.fit(X, Y, epochs=len(history))
    _same(net, twin)


def test_early_stopping_on_something_that_rises(backend: str) -> None:
    net = _net(backend, optimizer=SGD(0.5))
    stopping = EarlyStopping("validation_accuracy", patience=5)
    history = net.fit(
        X, Y, 300, callbacks=[stopping], validation_data=(HELD, HELD_Y), metrics=("accuracy",)
    )
    values = history.metrics["validation_accuracy"]
    assert stopping.best_epoch == int(np.argmax(values)) + 1
    assert net.evaluate(HELD, HELD_Y, ("accuracy",))["accuracy"] == max(values)


def test_early_stopping_wants_more_than_min_delta(backend: str) -> None:
    history = _net(backend).fit(
        X, Y, epochs=100, callbacks=[EarlyStopping("loss", patience=2, min_delta=10.0)]
    )
    assert len(history) == 3


def test_early_stopping_can_be_used_again(backend: str) -> None:
    stopping = EarlyStopping("loss", patience=2, min_delta=10.0)
    for _ in range(2):
        assert len(_net(backend).fit(X, Y, epochs=50, callbacks=[stopping])) == 3


@pytest.mark.parametrize("make", [EarlyStopping, ReduceOnPlateau])
@pytest.mark.parametrize("monitor", ["validation_loss", "accuracy", "validation_accuracy"])
def test_what_is_not_measured_can_not_be_watched(make: Any, monitor: str, backend: str) -> None:
    net, twin = _net(backend), _net(backend)
    with pytest.raises(ValueError, match=f"history has no '{monitor}'; there are loss"):
        net.fit(X, Y, callbacks=[make(monitor)])
    _same(net, twin)
    assert net.steps == 0


def test_which_way_is_better_must_be_known(backend: str) -> None:
    with pytest.raises(ValueError, match="mode must be 'min' or 'max' for monitor 'own'"):
        EarlyStopping("own")

    def own(y: Any, predicted: Any) -> float:
        return float((y == predicted).mean())

    stopping = EarlyStopping("own", mode="max", patience=3)
    history = _net(backend).fit(X, Y, epochs=50, metrics=(own,), callbacks=[stopping])
    assert stopping.best_epoch == int(np.argmax(history.metrics["own"])) + 1


# The others


def test_reduce_on_plateau(backend: str) -> None:
    net = _net(backend)
    reduce = ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=10.0, lowest=0.02)
    history = net.fit(X, Y, epochs=8, callbacks=[reduce])
    assert history.learning_rate == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.02]
    assert net.learning_rate == 0.02


def test_reduce_on_plateau_leaves_schedules_alone(backend: str) -> None:
    net = _net(backend, optimizer=SGD(ExponentialDecay(0.1, 0.9)))
    with pytest.raises(ValueError, match="schedule"):
        net.fit(X, Y, callbacks=[ReduceOnPlateau("loss")])
    assert net.steps == 0


def test_checkpoints(backend: str, tmp_path: Path) -> None:
    net = _net(backend)
    net.fit(X, Y, epochs=5, callbacks=[Checkpoint(tmp_path / "net-{epoch}", every=2)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-2", "net-4"]
    loaded = MLP.load(tmp_path / "net-4", backend=backend)
    loaded.fit(X, Y, epochs=1)
    _same(net, loaded)


def test_checkpoints_of_the_best(backend: str, tmp_path: Path) -> None:
    net = _net(backend, optimizer=SGD(0.5))
    history = net.fit(
        X,
        Y,
        epochs=30,
        callbacks=[Checkpoint(tmp_path / "best", best_only=True)],
        validation_data=(HELD, HELD_Y),
    )
    best = MLP.load(tmp_path / "best", backend=backend)
    assert best.evaluate(HELD, HELD_Y)["loss"] == min(history.validation_loss)


def test_a_checkpoint_needs_no_validation_to_save_every_epoch(backend: str, tmp_path: Path) -> None:
    _net(backend).fit(X, Y, epochs=1, callbacks=[Checkpoint(tmp_path / "net")])
    assert (tmp_path / "net").exists()


def test_time_limit(backend: str) -> None:
    net = _net(backend)
    net.fit(X, Y, epochs=1)
    started = time.perf_counter()
    history = net.fit(X, Y, epochs=10**8, callbacks=[TimeLimit(0.3)])
    assert 0.25 < time.perf_counter() - started < 5
    assert len(history) > 1


def test_time_limit_within_an_epoch(backend: str) -> None:
    many = np.random.default_rng(0).normal(size=(1_500_000, 3)).astype(np.float32)
    labels = np.zeros(len(many), np.int64)
    net = _net(backend, dtype="float32")
    net.fit(many[:2000], labels[:2000], epochs=1, batch_size=1)
    made = net.steps
    started = time.perf_counter()
    history = net.fit(many, labels, epochs=10**6, batch_size=1, callbacks=[TimeLimit(0.5)])
    assert time.perf_counter() - started < 5
    assert net.steps > made
    assert net.epochs == 1 + len(history)
    assert np.isfinite(net.weights[0]).all()


def test_csv(backend: str, tmp_path: Path) -> None:
    for epochs in (1, 3):  # the second fit replaces the file
        history = _net(backend).fit(
            X,
            Y,
            epochs=epochs,
            validation_data=(HELD, HELD_Y),
            metrics=("accuracy",),
            callbacks=[CSVLogger(tmp_path / "log.csv")],
        )
    with (tmp_path / "log.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        *("epoch", "loss", "validation_loss", "accuracy", "validation_accuracy", "seconds")
    ]
    assert [int(line["epoch"]) for line in lines] == [1, 2, 3]
    assert [float(line["loss"]) for line in lines] == history.loss
    assert [float(line["validation_accuracy"]) for line in lines] == history.metrics[
        "validation_accuracy"
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(3),
        lambda: EarlyStopping(patience=-1),
        lambda: EarlyStopping(patience=1.5),
        lambda: EarlyStopping(min_delta=-1),
        lambda: EarlyStopping(mode="up"),
        lambda: EarlyStopping(restore_best=1),
        lambda: ReduceOnPlateau(factor=1.0),
        lambda: ReduceOnPlateau(factor=0),
        lambda: ReduceOnPlateau(lowest=-1),
        lambda: Checkpoint("x", every=0),
        lambda: Checkpoint("x", best_only="yes"),
        lambda: TimeLimit(0),
        lambda: TimeLimit(np.nan),
        lambda: TimeLimit("1h"),
    ],
)
def test_bad_numbers_are_refused(make: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="must be"):
        make()


# Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_goes_to_standard_error(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    net = _net(backend)
    net.fit(X, Y, epochs=3, progress=True, metrics=("accuracy",), validation_fraction=0.2)
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.strip().splitlines()[-1]
    for part in (
        "epoch 3/3",
        "loss ",
        "validation loss ",
        "validation accuracy ",
        "rows/s",
        "left",
    ):
        assert part in last


def test_progress_is_silent_unless_asked_for(
    backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _net(backend).fit(X, Y, epochs=2)
    assert capsys.readouterr() == ("", "")


def test_progress_changes_no_bit(backend: str) -> None:
    shown, plain = _net(backend), _net(backend)
    shown.fit(X, Y, epochs=3, progress=True)
    plain.fit(X, Y, epochs=3)
    _same(shown, plain)


def test_a_live_line_is_written_over() -> None:
    stream, history = Terminal(), History()
    progress = Progress(2, 100, stream)
    progress.begin(history)
    progress.within_epoch(history, 50)
    history.loss.append(0.5)
    progress.shown = 0.0
    progress.end_of_epoch(history)
    progress.end(history)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.count("\r") == 3
    pictures = [picture for picture in text.split("\r") if picture]
    assert "epoch 1/2" in pictures[0]
    assert "loss 0.5" in pictures[-1]


def test_a_file_gets_few_lines() -> None:
    stream, history = io.StringIO(), History()
    progress = Progress(1000, 10, stream)
    progress.begin(history)
    for _ in range(1000):
        history.loss.append(0.5)
        progress.end_of_epoch(history)
    progress.end(history)
    assert stream.getvalue().count("\n") <= 3
    assert "\r" not in stream.getvalue()


def test_compiling_is_shown_apart() -> None:
    stream = io.StringIO()
    Progress(1, 10, stream).begin(History(compile_seconds=4.7))
    assert stream.getvalue() == "compiled in 4.7s\n"
