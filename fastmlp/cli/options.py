"""The words that each command understands."""

from __future__ import annotations

import argparse
import math
from importlib import import_module
from typing import Any, NoReturn

from .. import __version__
from ..activations import properties
from ..datasets import SCALINGS
from ..kernels.reference import ACTIVATIONS
from ..losses import ALIASES
from ..optimizers import WORDS
from .source import LOSSES

DATA_HELP = "digits, mnist, fashion-mnist, or a file: CSV, .npz (arrays X and y) or IDX images"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fastmlp: error: {message} (see {self.prog} --help)\n")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default only where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; ``run`` in its result is the command's function."""
    whole = _Parser(
        prog="fastmlp",
        description="Train and run multilayer perceptrons.",
        epilog="fastmlp train, without anything else, trains on digits that ship inside.",
    )
    whole.add_argument("--version", action="version", version=f"fastmlp {__version__}")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, add, text in (
        ("train", _train, "train a network and save it"),
        ("predict", _predict, "predict with a saved network"),
        ("info", _info, "show this machine, or a saved network"),
        ("bench", _bench, "time training on this machine, beside other libraries"),
    ):
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", formatter_class=_Help
        )
        add(command)
        command.add_argument("--debug", action="store_true", help="show errors with a traceback")
    return whole


def _later(module: str) -> Any:
    """The command's function in a module that is imported only when the command runs."""

    def run(chosen: argparse.Namespace) -> int:
        status: int = import_module(f".{module}", __package__).run(chosen)
        return status

    return run


def _train(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_later("train"))
    command.add_argument("data", nargs="?", metavar="DATA", help=f"{DATA_HELP}; default: digits")
    _add_file_options(command)
    command.add_argument("--labels", metavar="FILE", help="IDX labels of IDX images")
    _add_row_options(command.add_argument_group("rows"))
    _add_network_options(command.add_argument_group("network"))
    _add_training_options(command.add_argument_group("training"))
    result = command.add_argument_group("result")
    result.add_argument("--output", metavar="FILE", help="default: fastmlp-DATA.safetensors, here")
    result.add_argument("--no-save", action="store_true", help="write no file")
    result.add_argument("--no-compare", action="store_true", help="leave the comparison out")
    result.add_argument("--quiet", action="store_true", help="print errors only")


def _add_row_options(group: Any) -> None:
    group.add_argument(
        "--scaling",
        choices=["auto", *SCALINGS],
        default="auto",
        help="of features; auto means unit for images, standard for tables",
    )
    held = "share of rows held out"
    for name, share, text in (
        ("--validation-fraction", 0.1, held),
        ("--test-fraction", 0.2, f"{held}, for data without a test set"),
    ):
        group.add_argument(name, type=_share, default=share, metavar="F", help=text)


def _add_network_options(group: Any) -> None:
    hidden = [name for name in ACTIVATIONS if _trains_hidden(name)]
    losses = ["auto", *LOSSES, *ALIASES]
    group.add_argument("--hidden", type=_sizes, default="100", metavar="N,N", help="hidden units")
    for name, words, default in (("activation", hidden, "relu"), ("loss", losses, "auto")):
        text = ", ".join(words)
        group.add_argument(f"--{name}", choices=words, default=default, metavar="NAME", help=text)
    group.add_argument("--normalization", choices=["batch", "layer"], help="of hidden layers")
    group.add_argument("--dropout", type=float, default=0.0, metavar="P", help="share dropped")
    group.add_argument("--l2", type=float, default=0.0, metavar="X", help="penalty X/2 sum W^2")
    _add_dtype(group)


def _add_training_options(group: Any) -> None:
    group.add_argument("--optimizer", choices=list(WORDS), default="adam", help="rule")
    group.add_argument("--learning-rate", type=float, metavar="X", help="else the optimizer's own")
    for name, kind, default, text in (
        ("--epochs", _whole, 20, "passes over the rows"),
        ("--batch-size", _count, 64, "rows of an update"),
        ("--seed", _whole, 0, "of all random numbers"),
    ):
        group.add_argument(name, type=kind, default=default, metavar="N", help=text)
    _add_machine_options(group)


def _predict(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_later("predict"))
    command.add_argument("model", metavar="MODEL", help="file that fastmlp train has written")
    command.add_argument("data", metavar="DATA", help=f"{DATA_HELP}; of mnist the test rows")
    _add_file_options(command)
    command.add_argument("--output", metavar="FILE", help="CSV file; default: standard output")
    command.add_argument("--proba", action="store_true", help="probabilities of all classes")
    _add_machine_options(command)


def _info(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_later("machine"))
    command.add_argument("model", nargs="?", metavar="MODEL", help="a saved network")


def _bench(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_later("compare"))
    command.add_argument(
        "--layers", type=_sizes, metavar="N,N", help="sizes of one network, instead of the list"
    )
    for name, default, text in (
        ("--batch-size", 256, "with --layers: rows of an update"),
        ("--rows", 4096, "with --layers: random rows"),
    ):
        command.add_argument(name, type=_count, default=default, metavar="N", help=text)
    command.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd", help="rule")
    command.add_argument(
        "--seconds", type=_seconds, default=2.0, metavar="S", help="each library on each network"
    )
    command.add_argument("--json", metavar="FILE", help="write the results there, too")
    _add_dtype(command)
    _add_threads(command)


def _add_file_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--target", type=_column, metavar="COLUMN", help="name or place (CSV)")
    command.add_argument("--delimiter", type=_delimiter, metavar="C", help="between cells (CSV)")
    command.add_argument("--data-folder", metavar="DIR", help="of mnist; else FASTMLP_MNIST")


def _add_machine_options(group: Any) -> None:
    backends = ["auto", "numpy", "numba", "cupy"]
    group.add_argument("--backend", choices=backends, default="auto", help="what computes")
    _add_threads(group)


def _add_threads(group: Any) -> None:
    group.add_argument("--threads", type=_count, metavar="N", help="of the compiled kernels")


def _add_dtype(group: Any) -> None:
    precisions = ["float32", "float64"]
    group.add_argument("--dtype", choices=precisions, default="float32", help="precision")


def _trains_hidden(name: str) -> bool:
    known = properties(name)
    return known.trainable and not known.output_only


def _sizes(text: str) -> list[int]:
    """Numbers with commas between; nothing means no hidden layer."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"wants sizes such as 100,50; got {text!r}") from None


def _whole(text: str) -> int:
    """A number from 0."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"wants a whole number, not negative; got {text[:40]!r}")
    return int(text)


def _count(text: str) -> int:
    """A number from 1."""
    if _whole(text) == 0:
        raise argparse.ArgumentTypeError("wants at least 1; got '0'")
    return int(text)


def _share(text: str) -> float:
    if not 0 <= (share := _number(text)) < 1:
        raise argparse.ArgumentTypeError(f"wants a number from 0 to below 1; got {text!r}")
    return share


def _seconds(text: str) -> float:
    if not 0 < (seconds := _number(text)) <= 3600:
        raise argparse.ArgumentTypeError(f"wants a number above 0, up to 3600; got {text!r}")
    return seconds


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _column(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _delimiter(text: str) -> str:
    return "\t" if text in ("\\t", "tab") else text
