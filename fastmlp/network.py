"""The multilayer perceptron: one class for training, predictions and files."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from . import checks, choices, files, generators, initializers, optimizers, saving
from .architecture import build, describe, draw_parameters
from .engine import Engine
from .history import History
from .inference import Predictor
from .jobs import prepared
from .kernels.contract import Array
from .kernels.layout import parameter_segments
from .parameters import Parametrized
from .training import one_update, train


class Gradients(NamedTuple):
    """Loss and gradients of `MLP.gradients`."""

    loss: float
    """The loss, penalties in."""
    weights: list[Array]
    biases: list[Array]
    parameters: dict[str, Array]
    """All gradients by name, those of weights and biases too."""


class MLP(Parametrized, Predictor):
    """A multilayer perceptron.

    Parameters
    ----------
    layer_sizes : sequence of int
        Inputs, hidden layers..., outputs.
    activation : str or object, or a sequence of them
        For all hidden layers, or one for each: "relu", "tanh", ..., ``LeakyReLU(0.2)``.
    output_activation : str or object, optional
        None: what the loss wants (softmax, sigmoid, exp, identity).
    loss : str or object
        "cross_entropy", "binary_cross_entropy", "mse", ..., ``Huber(2.0)``.
    optimizer : str or object
        "adam", "sgd", ..., ``SGD(0.1, momentum=0.9)``. The network holds it and its state.
    reduction : str
        Over the rows of a batch: "mean" or "sum".
    init : str or object
        "auto", "glorot_uniform", "he_normal", ..., ``Normal(0.1)``.
    l1, l2 : float
        Penalty ``l1 sum |W| + l2/2 sum W^2``, weights only.
    penalty_scale : str
        "batch": added as it is to each batch's loss; "rows": divided by the batch's rows or
        weight sum.
    dropout : float or sequence of float
        Share of a hidden layer's outputs that is dropped in training.
    normalization : str or None, or a sequence of them
        "batch" or "layer", before the activation of hidden layers.
    dtype : str
        "float32" or "float64"; with backend "cupy" also "tf32" or "bfloat16".
    backend : str
        "numpy", "numba", "cupy", or "auto": numba where it is installed, else numpy.
    seed : int, Generator, RandomState, optional
        An int means ``numpy.random.default_rng(seed)``; a generator is used itself.

    Attributes
    ----------
    history : History or None
        Of the latest fit.
    metadata : dict
        Yours: saved and loaded with the network, as JSON.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.
    MemoryError
        There is no room for so many parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLP, Adam
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> net = MLP((2, 8, 2), activation="tanh", optimizer=Adam(0.05), seed=1)
    >>> history = net.fit(X, [0, 1, 1, 0], epochs=300, batch_size=4)
    >>> net.predict(X)
    array([0, 1, 1, 0])
    """

    def __init__(
        self,
        layer_sizes: Iterable[int],
        activation: Any = "relu",
        output_activation: Any = None,
        loss: Any = "cross_entropy",
        optimizer: Any = "adam",
        reduction: str = "mean",
        init: Any = "auto",
        l1: float = 0.0,
        l2: float = 0.0,
        penalty_scale: str = "batch",
        dropout: Any = 0.0,
        normalization: Any = None,
        dtype: Any = "float32",
        backend: str = "auto",
        seed: Any = None,
    ) -> None:
        chosen = {
            name: tuple(value) if checks.several(value) else value
            for name, value in (
                ("activation", activation),
                ("output_activation", output_activation),
                ("loss", loss),
            )
        }
        architecture = build(
            layer_sizes,
            **chosen,
            reduction=reduction,
            l1=l1,
            l2=l2,
            penalty_scale=penalty_scale,
            dropout=dropout,
            normalization=normalization,
        )
        updates = optimizers.resolve(optimizer)
        drawing = initializers.resolve(init)
        kind = choices.precision(dtype)
        name = choices.backend(backend, kind)
        rng = generators.as_generator(seed)
        parameters, running = draw_parameters(
            architecture, drawing, rng, choices.numbers_of(kind).name
        )
        drops = any(layer.dropout > 0 for layer in architecture.network.layers)
        key = generators.key64(rng) if drops else 0
        self._chosen = chosen
        self._engine = Engine(architecture.network, kind, name, updates, rng, key)
        self._engine.start(parameters, running)
        self.history: History | None = None
        self.metadata: dict[str, Any] = {}

    # What it is

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Inputs, hidden units..., outputs."""
        layers = self._engine.network.layers
        return (layers[0].inputs, *(layer.units for layer in layers))

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._engine.backend

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of parameters and outputs."""
        return self._engine.dtype

    @property
    def optimizer(self) -> optimizers.Optimizer:
        """The optimizer's numbers; its state is the network's."""
        return self._engine.optimizer

    @property
    def learning_rate(self) -> Any:
        """The optimizer's learning rate, a number or a schedule; setting it keeps the state."""
        return self._engine.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        self._engine.optimizer = dataclasses.replace(self._engine.optimizer, learning_rate=rate)

    @property
    def steps(self) -> int:
        """Updates that the optimizer has made."""
        return self._engine.steps

    @property
    def epochs(self) -> int:
        """Whole epochs that the optimizer has seen."""
        return self._engine.epochs

    def __repr__(self) -> str:
        """Show what the network is made of."""
        network = self._engine.network
        return (
            f"MLP({self.layer_sizes}, loss={network.loss!r}, optimizer={self.optimizer!r}, "
            f"dtype={self._engine.precision!r}, backend={self.backend!r})"
        )

    def summary(self) -> str:
        """Return a table of the layers and what they learn."""
        engine = self._engine
        way = engine.coming_way()
        backend = self.backend if way is None else f"{self.backend} ({way})"
        return describe(engine.network, engine.precision, backend, self.optimizer)

    # Training

    def gradients(
        self, X: Any, y: Any, training: bool = False, sample_weight: Any = None
    ) -> Gradients:
        """Return the loss of all rows as one batch, and its gradients.

        Parameters
        ----------
        X : array (rows, inputs)
            Finite numbers.
        y : array
            Targets as in `fit`.
        training : bool
            True: batch statistics and the current step's dropout mask.
        sample_weight : array (rows,), optional
            At least 0.
        """
        self._check_trainable()
        data = self._data(X, y, sample_weight)
        wanted = checks.flag(training, "training")
        loss, flat = self._engine.gradient(data.X, data.T, data.w, wanted)
        named = {s.name: s.view(flat) for s in parameter_segments(self._engine.network)}
        weights = [a for name, a in named.items() if name.startswith("weights.")]
        biases = [a for name, a in named.items() if name.startswith("biases.")]
        return Gradients(loss, weights, biases, named)

    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 10,
        batch_size: int = 64,
        shuffle: Any = True,
        drop_last: bool = False,
        optimizer: Any = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        validation_fraction: float = 0.0,
        metrics: Any = (),
        callbacks: Any = (),
        progress: bool = False,
    ) -> History:
        """Train for some epochs; return their history.

        Parameters
        ----------
        X : array (rows, inputs)
            Finite numbers of any real dtype.
        y : array
            cross_entropy: class indices (rows,), one-hot rows or probabilities. For
            binary_cross_entropy 0 and 1, for margin losses -1 and 1, else numbers;
            (rows,) or (rows, 1) where there is one output.
        epochs : int
            0 trains nothing.
        batch_size : int
            Above the number of rows: one full batch.
        shuffle : bool, "permutation" or callable
            True: a keyed order, computed where rows are gathered. "permutation": one
            ``rng.permutation(rows)`` an epoch. A callable ``(rng, previous_order) -> order``.
        drop_last : bool
            Leave a short last batch out.
        optimizer : str or object, optional
            None continues with the optimizer and its state; anything else starts afresh.
        sample_weight : array (rows,), optional
            At least 0, not all 0.
        validation_data : tuple, optional
            (X, y) or (X, y, sample_weight).
        validation_fraction : float
            Share of the rows to hold out, drawn before the first order; stratified for class
            indices.
        metrics : sequence of str or callable
            As in `evaluate`; on the training rows and on the validation rows, after each epoch.
        callbacks : sequence
            Functions ``(epoch, history, net)`` or `Callback` objects.
        progress : bool
            Show a live line on standard error.

        Raises
        ------
        DivergenceError
            A loss or parameter is not finite at the end of an epoch; the network is as it was
            before that epoch.
        KeyboardInterrupt
            Ctrl-C; the network keeps what it has learned, ``net.history`` what was recorded.
        RuntimeError
            It is being trained already, by another thread or by the caller of this callback.
        """
        self._check_trainable()
        fresh = None if optimizer is None else optimizers.resolve(optimizer)
        job = prepared(
            self._engine,
            (X, y, sample_weight),
            fresh,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            validation_data=validation_data,
            validation_fraction=validation_fraction,
            metrics=metrics,
            callbacks=callbacks,
            progress=progress,
        )
        with self._engine.alone():
            return train(self, self._engine, job, fresh)

    def train_on_batch(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Make one update with all rows as the minibatch; return the loss before it.

        Raises
        ------
        DivergenceError
            The loss or a parameter is no finite number; the network is as it was.
        """
        self._check_trainable()
        data = self._data(X, y, sample_weight)
        with self._engine.alone():
            return one_update(self._engine, data)

    def _check_trainable(self) -> None:
        if not self._engine.trainable:
            raise ValueError(
                "activation 'step' has no derivative to train by: the network can only predict"
            )

    # Moving and saving

    def to(self, backend: str, dtype: Any = None) -> MLP:
        """Move to another backend, with all state; return the network itself.

        `dtype` changes between "float32", "tf32" and "bfloat16", whose parameters are alike.
        """
        kind = choices.other_precision(dtype, self._engine.precision)
        self._engine.move_to(choices.backend(backend, kind), kind)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole network to a safetensors file, atomically.

        Parameters, optimizer and its state, generator and counts: training goes on from the file
        bit for bit. Files hold no code.

        Raises
        ------
        ValueError
            Something is code of your own, such as a schedule function; the message says what.
        OSError
            The file can't be written; an earlier file of this name is still whole.
        """
        config, arrays = saving.packed(self._engine, self._chosen, self.metadata)
        files.save(path, config, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: str = "auto", dtype: Any = None) -> MLP:
        """Read a network from a file; `dtype` as in `to`.

        Raises
        ------
        FileFormatError
            The file is no saved network, or not whole; a ValueError.
        OSError
            The file can't be read.
        """
        config, arrays = files.load(path)
        with saving.reading(path):
            saving.check_sizes(config, arrays)
            contents = saving.unpacked(config, dtype)
            net = cls(**contents.description, init="zeros", backend=backend)
            saving.fill(net._engine, contents, arrays)
            net.metadata = contents.metadata
        return net


def warmup(dtype: Any = "float32", backend: str = "auto") -> float:
    """Compile the kernels of a precision, or load them from the cache; return the seconds.

    One set of kernels serves every network: after this, no training and no prediction compiles.

    Parameters
    ----------
    dtype : str
        "float32" or "float64".
    backend : str
        As in `MLP`.
    """
    started = time.perf_counter()
    # Networks of up to 8 units and single rows have kernels of their own.
    for inputs, batch in ((20, 2), (2, 2), (20, 1)):
        net = MLP((inputs, 2), dtype=dtype, backend=backend, seed=0)
        net.fit(np.zeros((2, inputs)), [0, 1], epochs=1, batch_size=batch)
        net.predict(np.zeros((1, inputs)))
    return time.perf_counter() - started
