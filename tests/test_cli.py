"""The command line, as somebody who types it sees it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP, kernels
from fastmlp.cli import compare, contest, main
from fastmlp.datasets import Standardize, load_digits, load_fashion_mnist, write_idx

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("--backend", "numpy", "--epochs", "2")
SPECIES = ("setosa", "versicolor", "virginica")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: object) -> int:
    return main([str(word) for word in words])


def predictions(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that must fail; return its one line on standard error."""
    try:
        status = run(*words)
    except SystemExit as ended:
        status = ended.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.startswith("fastmlp: error: ")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    return captured.err


def flowers(path: Path, rows: int = 120, header: bool = True) -> np.ndarray:
    """Write a table of three kinds that a linear rule tells apart; return the features."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, rows)
    X = rng.normal(size=(rows, 2)) * 0.2 + np.stack([100 + kinds, -kinds], axis=1)
    lines = ["long,wide,kind"] if header else []
    lines += [f"{a},{b},{SPECIES[k]}" for (a, b), k in zip(X.tolist(), kinds, strict=True)]
    path.write_text("\n".join(lines))
    return X


# train


def test_train_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    assert run("train") == 0
    out, err = capsys.readouterr()
    assert "digits: 64 features, 10 classes" in out
    assert "1257 train, 180 validation, 360 test" in out
    scores = re.findall(r"^(train|validation|test) +\d+ +[\d.]+ +([\d.]+)$", out, re.MULTILINE)
    assert [name for name, _ in scores] == ["train", "validation", "test"]
    assert all(float(score) > 0.85 for _, score in scores)
    assert "to compile or load kernels" in out
    assert "epoch 20/20" in err
    assert "saved to fastmlp-digits.safetensors" in out
    assert re.search(r"fastmlp +[\d,]+ rows/s.*\n +NumPy +[\d,]+ rows/s.*\n +ratio +[\d.]+", out)
    assert MLP.load("fastmlp-digits.safetensors").layer_sizes == (64, 100, 10)


def test_the_same_seed_gives_the_same_file(backend: str) -> None:
    for name in ("one", "two"):
        assert run("train", "digits", "--backend", backend, "--quiet", "--output", name) == 0
    assert Path("one").read_bytes() == Path("two").read_bytes()


def test_options_reach_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(
            *("train", "digits", *QUICK, "--hidden", "7,5", "--activation", "prelu", "--dtype"),
            *("float64", "--optimizer", "momentum", "--learning-rate", "0.25", "--l2", "0.5"),
            *("--dropout", "0.1", "--normalization", "layer", "--batch-size", "100", "--seed", "3"),
            *("--validation-fraction", "0", "--test-fraction", "0.5", "--scaling", "signed"),
        )
        == 0
    )
    net = MLP.load("fastmlp-digits.safetensors", backend="numpy")
    assert net.layer_sizes == (64, 7, 5, 10)
    assert net.dtype == np.float64
    assert net.learning_rate == 0.25
    assert net.optimizer.momentum == 0.9  # type: ignore[attr-defined]
    assert {"slope.0", "scale.1"} <= set(net.parameters)
    assert net.steps == 2 * 9
    assert net.metadata["scaling"] == {"mean": 0.5, "scale": 0.5, "divisor": 16.0}
    out = capsys.readouterr().out
    assert "898 train, 899 test" in out
    assert "validation" not in out


def test_no_hidden_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "digits", *QUICK, "--hidden", "", "--no-save") == 0
    assert "network 64-10," in capsys.readouterr().out


def test_quiet_and_no_save(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("train", *QUICK, "--quiet", "--no-save") == 0
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_the_comparison_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("train", *QUICK, "--no-save", "--no-compare") == 0
    assert "omparison" not in capsys.readouterr().out
    monkeypatch.setattr(compare, "available_backends", lambda: {"numba": "it is not installed"})
    assert run("train", *QUICK, "--no-save") == 0
    assert "no comparison with compiled kernels: it is not installed" in capsys.readouterr().out
    assert "it is not installed" in fails(capsys, "bench")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_bench(dtype: str, optimizer: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    options = ("--layers", "5,4,3", "--batch-size", 10, "--rows", 50, "--seconds", 0.01)
    written = ("--json", "times.json", "--dtype", dtype, "--optimizer", optimizer)
    assert run("bench", *options, *written) == 0
    out = capsys.readouterr().out
    assert f"with {optimizer}, cross-entropy, {dtype}" in out
    (line,) = [line for line in out.splitlines() if line.startswith("5-4-3 relu")]
    found = json.loads(Path("times.json").read_text())
    case = found["workloads"]["5-4-3"]
    assert f"{case['best peer / ours']:.2f}" in line
    assert case["microseconds"]["NumPy, tuned"] > 0
    assert found["machine"]["packages"]["numpy"] == np.__version__


def test_bench_says_before_it_starts_that_it_cannot_write(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("numba")
    assert "folder that isn't there" in fails(capsys, "bench", "--json", "nowhere/times.json")


def test_bench_refuses_numbers_that_differ(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(contest, "PARITY", {"float32": 0.0})
    assert "weights differ by" in fails(capsys, "bench", "--layers", "5,4,3", "--rows", 10)


def _rounds(rates: list[float], least: int, most: int) -> tuple[int, int]:
    """Calls that were made and that counted, if the probe sees these rates in turn."""
    left, calls = iter(rates), []
    pace = contest.Pace(0, least, most, 0, lambda: next(left))
    times = contest.in_turn({"one": lambda: calls.append(1)}, pace)["one"]
    return len(calls) - 2, len(times)  # without the first, and the one that tells how long


@pytest.mark.parametrize(
    ("rates", "made", "counted"),
    [
        ([10, 10, 10], 3, 3),
        ([10, 5, 10, 9.2, 9.4], 5, 3),
        ([5, 5, 10, 10, 5, 10], 6, 3),
        ([5, 5, 10, 5, 5, 5], 6, 3),
        ([5, 5, 5], 3, 3),  # it never was faster
    ],
)
def test_a_contest_repeats_what_was_disturbed(rates: list[float], made: int, counted: int) -> None:
    assert _rounds(rates, 3, 6) == (made, counted)


def test_a_contest_counts_the_quietest_where_few_were_quiet() -> None:
    rates = iter([10.0, 5.0, 10.0, 7.0, 10.0, 6.0])
    pace = contest.Pace(0, 2, 3, 0, lambda: next(rates))
    waits = {"lucky": iter([0] * 5), "unlucky": iter([0, 0, 0.2, 0.01, 0.01])}
    runs = {name: partial(lambda seconds: time.sleep(next(seconds)), waits[name]) for name in waits}
    times = contest.in_turn(runs, pace)
    assert {name: len(seconds) for name, seconds in times.items()} == {"lucky": 3, "unlucky": 2}
    assert max(times["unlucky"]) < 0.15


# Tables, there and back


def test_a_table_of_classes(capsys: pytest.CaptureFixture[str]) -> None:
    X = flowers(Path("flowers.csv"))
    assert run("train", "flowers.csv", "--backend", "numpy", "--epochs", 150) == 0
    out = capsys.readouterr().out
    assert "flowers: 2 features, 3 classes (setosa, versicolor, virginica)" in out
    assert "features scaled (standard)" in out
    model = "fastmlp-flowers.safetensors"
    assert run("predict", model, "flowers.csv", "--backend", "numpy") == 0
    header, *answers = predictions(capsys.readouterr().out)
    assert header == ["prediction"]
    wanted = [line.rsplit(",", 1)[1] for line in Path("flowers.csv").read_text().split("\n")[1:]]
    right = [answer == [kind] for answer, kind in zip(answers, wanted, strict=True)]
    assert np.mean(right) > 0.9

    net = MLP.load(model, backend="numpy")
    scale = Standardize.from_dict(net.metadata["scaling"])
    shares = net.predict_proba(scale.apply(X))
    assert run("predict", model, "flowers.csv", "--proba", "--backend", "numpy") == 0
    header, *answers = predictions(capsys.readouterr().out)
    assert header == list(SPECIES)
    np.testing.assert_array_equal(np.array(answers, np.float32), shares)


def test_columns_are_found_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    X = flowers(Path("flowers.csv"))
    assert run("train", "flowers.csv", *QUICK, "--quiet", "--output", "net") == 0
    assert run("predict", "net", "flowers.csv", "--backend", "numpy") == 0
    wanted = capsys.readouterr().out
    turned = ["kind;wide;long", *(f"?x;{b};{a}" for a, b in X.tolist())]
    tables = {
        "features only": ["wide;long", *(f"{b};{a}" for a, b in X.tolist())],
        "target first": turned,
        "no names": [f"{a},{b}" for a, b in X.tolist()],
        "no names, target last": [f"{a},{b},setosa" for a, b in X.tolist()],
    }
    for name, lines in tables.items():
        Path("other.csv").write_text("\n".join(lines))
        assert run("predict", "net", "other.csv", "--backend", "numpy") == 0, name
        assert capsys.readouterr().out == wanted, name
    Path("other.csv").write_text("long,high\n1,2\n")
    assert "lacks columns that the network was trained on: wide" in fails(
        capsys, "predict", "net", "other.csv"
    )
    Path("other.csv").write_text("long,wide,high,deep\n1,2,3,4\n")
    assert "columns too many: high, deep" in fails(capsys, "predict", "net", "other.csv")
    Path("other.csv").write_text("1,2,3,4,5\n")
    assert "5 features, the network wants 2" in fails(capsys, "predict", "net", "other.csv")


def test_a_table_of_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1000, (200, 2))
    price = 1e6 + 300 * X[:, 0] - 200 * X[:, 1]
    rows = [f"{y!r};{a!r};{b!r}" for y, (a, b) in zip(price.tolist(), X.tolist(), strict=True)]
    Path("houses.csv").write_text("\n".join(["price;a;b", *rows]))
    words = ("--target", "price", "--epochs", 60, "--backend", "numpy", "--output", "net")
    assert run("train", "houses.csv", *words) == 0
    out = capsys.readouterr().out
    assert "houses: 2 features, 1 output;" in out
    assert "targets (standard)" in out
    assert run("predict", "net", "houses.csv", "--output", "out.csv", "--backend", "numpy") == 0
    assert capsys.readouterr().out == ""
    header, *answers = predictions(Path("out.csv").read_text())
    assert header == ["prediction"]
    apart = np.array(answers, float)[:, 0] - price
    assert np.sqrt(np.mean(apart**2)) < 0.2 * price.std()
    assert "predict_proba needs" in fails(capsys, "predict", "net", "houses.csv", "--proba")


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "hinge", "cross_entropy"])
def test_two_classes(capsys: pytest.CaptureFixture[str], loss: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    lines = [f"{a},{b},{'yes' if a + b > 0 else 'no'}" for a, b in X.tolist()]
    Path("votes.csv").write_text("\n".join(lines))
    words = ("--backend", "numpy", "--epochs", 100, "--batch-size", 10, "--quiet")
    assert run("train", "votes.csv", "--loss", loss, *words, "--output", "net") == 0
    assert run("predict", "net", "votes.csv", "--backend", "numpy") == 0
    answers = predictions(capsys.readouterr().out)[1:]
    right = [line.endswith(f",{answer}") for line, (answer,) in zip(lines, answers, strict=True)]
    assert np.mean(right) > 0.9
    if loss != "hinge":
        assert run("predict", "net", "votes.csv", "--proba", "--backend", "numpy") == 0
        header, *shares = predictions(capsys.readouterr().out)
        assert header == ["no", "yes"]
        np.testing.assert_allclose(np.array(shares, float).sum(axis=1), 1, rtol=1e-6)


def test_whole_numbers_are_classes_while_they_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    for count, wanted in ((20, "20 classes"), (21, "1 output")):
        lines = [f"{row % 7},{row},{5 + row % count}" for row in range(100)]
        Path("codes.csv").write_text("\n".join(lines))
        assert run("train", "codes.csv", *QUICK, "--output", "net") == 0
        assert wanted in capsys.readouterr().out
    assert run("train", "codes.csv", *QUICK, "--output", "net", "--loss", "cross_entropy") == 0
    assert "21 classes" in capsys.readouterr().out
    assert run("predict", "net", "codes.csv", "--backend", "numpy") == 0
    answers = {answer for (answer,) in predictions(capsys.readouterr().out)[1:]}
    assert answers <= {str(code) for code in range(5, 26)}


def test_arrays_and_images(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = load_digits()
    np.savez("data.npz", X=X, y=y)
    write_idx(Path("images.gz"), X.reshape(-1, 8, 8))
    write_idx(Path("labels"), y.astype(np.uint8))
    assert run("train", "data.npz", *QUICK, "--output", "a") == 0
    assert run("train", "images.gz", "--labels", "labels", *QUICK, "--output", "b") == 0
    out = capsys.readouterr().out
    assert "data: 64 features, 10 classes" in out
    assert "images: 64 features, 10 classes" in out
    for model, data in (("a", "data.npz"), ("b", "images.gz"), ("b", "digits")):
        assert run("predict", model, data, "--backend", "numpy") == 0
        assert len(predictions(capsys.readouterr().out)) == 1798
    assert "need their labels: --labels" in fails(capsys, "train", "images.gz")
    assert "wants 1797 whole numbers" in fails(
        capsys, "train", "images.gz", "--labels", "images.gz"
    )


def test_several_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    np.savez("many.npz", X=X, y=X[:, :2] * 10 + 5)
    assert run("train", "many.npz", *QUICK, "--output", "net") == 0
    assert "3 features, 2 outputs" in capsys.readouterr().out
    assert run("predict", "net", "many.npz", "--backend", "numpy") == 0
    header, *answers = predictions(capsys.readouterr().out)
    assert header == ["prediction_0", "prediction_1"]
    assert np.array(answers, float).shape == (60, 2)


def test_a_network_without_the_metadata_of_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    net = MLP((2, 3, 2), backend="numpy", seed=0)
    net.save("plain")
    Path("rows.csv").write_text("0.5,1\n-1,2\n")
    assert run("predict", "plain", "rows.csv", "--backend", "numpy", "--proba") == 0
    header, *answers = predictions(capsys.readouterr().out)
    assert header == ["output_0", "output_1"]
    np.testing.assert_array_equal(
        np.array(answers, np.float32), net.predict_proba([[0.5, 1], [-1, 2]])
    )


@pytest.mark.mnist
def test_fashion_mnist(
    capsys: pytest.CaptureFixture[str], fashion_mnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    monkeypatch.delenv("FASTMLP_FASHION_MNIST")
    words = ("--data-folder", fashion_mnist_folder)
    assert run("train", "fashion-mnist", *words, "--epochs", 2) == 0
    assert "54000 train, 6000 validation, 10000 test" in capsys.readouterr().out
    assert run("predict", "fastmlp-fashion-mnist.safetensors", "fashion-mnist", *words) == 0
    answers = predictions(capsys.readouterr().out)[1:]
    y = load_fashion_mnist(fashion_mnist_folder).y_test
    assert np.mean(np.array(answers, int)[:, 0] == y) > 0.8


# info


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    out = capsys.readouterr().out
    for word in ("fastmlp", "python", "numpy", "numba", "threads", "cpu", "kernel cache"):
        assert re.search(rf"^{word} ", out, re.MULTILINE)
    for name, reason in kernels.available().items():
        assert re.search(rf"^  {name} +{'missing: ' if reason else 'ready'}", out, re.MULTILINE)


def test_info_on_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "digits", *QUICK, "--quiet") == 0
    assert run("info", "fastmlp-digits.safetensors") == 0
    out = capsys.readouterr().out
    assert "7,510 parameters" in out
    assert "2 epochs, 40 updates" in out
    assert "classes: 0, 1, 2" in out


# Errors


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "arguments are required: COMMAND"),
        ("fly", "invalid choice: 'fly'"),
        ("train nothing.csv", r"nothing\.csv: No such file"),
        ("train .", r"\.: Is a directory"),
        ("train --hidden x", "--hidden: wants sizes such as 100,50; got 'x'"),
        ("train --hidden 0", "layer_sizes must be an integer"),
        ("train --epochs -1", "--epochs"),
        ("train --epochs 1.5", "--epochs: wants a whole number"),
        ("train --batch-size 0", "--batch-size: wants at least 1"),
        ("train --threads 0", "--threads: wants at least 1"),
        ("train --threads 99999", "from 1 to 1024"),
        ("train --validation-fraction 1", "--validation-fraction: wants a number from 0"),
        ("train --validation-fraction 0.5 --test-fraction 0.5", "too few"),
        ("train --loss magic", "--loss: invalid choice: 'magic'"),
        ("train --loss hinge", "wants 2 classes, there are 10"),
        ("train --activation step", "--activation: invalid choice: 'step'"),
        ("train --dropout 1", "dropout"),
        ("train --learning-rate 0", "learning_rate"),
        ("train --backend cupy", "cupy"),
        ("train --output nowhere/net", "nowhere/net: is a folder, or in a folder"),
        ("train --output .", "is a folder"),
        ("train digits --target 1", "--target doesn't go with data of kind digits"),
        ("train digits --labels x", "--labels doesn't go with data of kind digits"),
        ("train digits --data-folder x", "--data-folder doesn't go with"),
        ("train mnist --data-folder nowhere", "nowhere: has none of train-images-idx3-ubyte"),
        ("predict nothing digits", "nothing: No such file"),
        ("predict junk digits", "junk: not a saved network"),
        ("predict net nothing.csv", r"nothing\.csv: No such file"),
        ("predict net table.csv --target zz", "wants one column named 'zz'"),
        ("info junk", "junk: not a saved network"),
        ("bench --seconds 0", "--seconds: wants a number above 0"),
        ("predict net digits --target 1", "--target doesn't go with data of kind digits"),
        ("bench --layers 5", "layer_sizes must have at least"),
    ],
)
@pytest.mark.usefixtures("no_device")
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], words: str, why: str) -> None:
    Path("junk").write_text("this is no network at all")
    Path("table.csv").write_text("1,2,3\n")
    MLP((2, 2), backend="numpy", seed=0).save("net")
    assert re.search(why, fails(capsys, *words.split()))


@pytest.mark.parametrize(
    ("table", "words", "why"),
    [
        ("a,b\n1,2\n1,\n", "", "line 3, column 2"),
        ("1,x\n2,y\n3,z\n", "", "each row has a class of its own"),
        ("1,x\n2,x\n3,x\n", "", "one class only"),
        ("1,x\n2,y\n3,y\n", "--loss mse", "wants numbers as targets"),
        ("1,x\n2,y\n3,y\n", "--test-fraction 0.6 --validation-fraction 0.3", "too few"),
        ("1,2.5\n2,3\n", "--delimiter ab", "delimiter"),
        ("1,-2.5\n2,3\n5,6\n7,8\n", "--loss poisson", "y must hold numbers >= 0"),
    ],
)
def test_wrong_tables(capsys: pytest.CaptureFixture[str], table: str, words: str, why: str) -> None:
    Path("table.csv").write_text(table)
    assert re.search(why, fails(capsys, "train", "table.csv", "--backend", "numpy", *words.split()))


def test_divergence_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--optimizer", "sgd", "--learning-rate", "1e30", "--activation", "identity")
    with np.errstate(all="ignore"):
        assert "training diverged" in fails(
            capsys, "train", "digits", *QUICK, *words, "--loss", "mse", "--quiet"
        )


def test_metadata_from_elsewhere_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    net = MLP((2, 3, 2), backend="numpy", seed=0)
    Path("rows.csv").write_text("0.5,1\n")
    for metadata, why in (
        ({"classes": ["one"]}, "names 1 classes"),
        ({"classes": [1, 2]}, "classes that are no names"),
        ({"scaling": {"mean": "x"}}, "not a stored scaling"),
        ({"scaling": {"mean": [1.0], "scale": [1.0], "divisor": 1}}, r"wants \(rows, 1\)"),
        ({"scaling": 3}, "not a stored scaling"),
        ({"columns": "ab"}, "columns that are no names"),
    ):
        net.metadata = metadata
        net.save("net")
        assert re.search(why, fails(capsys, "predict", "net", "rows.csv", "--backend", "numpy"))


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(FileNotFoundError):
        run("train", "nothing.csv", "--debug")


# Processes


def command(*words: str, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "fastmlp", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def test_as_a_module() -> None:
    with command("--version") as child:
        out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert re.fullmatch(r"fastmlp \d+\.\d+\.\d+\n", out)


def test_numba_stays_out_until_needed() -> None:
    code = (
        "import sys; from fastmlp.cli import main; "
        "main(['train', '--backend', 'numpy', '--epochs', '1', '--quiet', '--no-save']); "
        "print(sorted({'numba', 'llvmlite', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_ctrl_c_keeps_the_network(shared_backend: str) -> None:
    words = ("train", "digits", "--backend", shared_backend, "--epochs", "100000000")
    with command(*words, "--output", "net") as child:
        assert child.stderr is not None
        while not child.stderr.readline().startswith("epoch"):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted in epoch" in err
    assert "Traceback" not in err
    assert "saved to net, as far as it is trained" in out
    assert MLP.load("net", backend="numpy").steps > 0


@pytest.mark.skipif(os.name != "posix", reason="needs pipes of a POSIX system")
def test_a_reader_that_goes_away() -> None:
    MLP((64, 10), backend="numpy", seed=0).save("net")
    with command("predict", "net", "digits", "--proba", "--backend", "numpy") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        err = child.stderr.read()
        assert child.wait(60) == 141
    assert err == ""
