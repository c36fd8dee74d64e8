"""Data sets and tables: right numbers, and clear words for everything that is wrong."""

from __future__ import annotations

import gzip
import hashlib
import struct
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastmlp.datasets import (
    SCALINGS,
    Standardize,
    load_csv,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    load_npz,
    read_idx,
    write_idx,
)
from fastmlp.datasets.idx import CODES

idx_arrays = hnp.arrays(
    st.sampled_from([*CODES.values(), *(dtype.newbyteorder(">") for dtype in CODES.values())]),
    hnp.array_shapes(max_dims=5, max_side=4, min_side=0),
)


def idx_bytes(code: int = 8, sizes: tuple[int, ...] = (2, 3), data: bytes = bytes(6)) -> bytes:
    return bytes((0, 0, code, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes) + data


# IDX


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array=idx_arrays, ending=st.sampled_from(["", ".gz"]))
def test_idx_there_and_back(tmp_path: Path, array: np.ndarray, ending: str) -> None:
    path = tmp_path / f"any{ending}"
    write_idx(path, array)
    found = read_idx(path)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    assert found.tobytes() == array.astype(found.dtype).tobytes()
    assert found.flags.writeable
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == bool(ending)


def test_idx_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(idx_bytes(0x0B, (2, 2), bytes.fromhex("0001 ffff 0100 8000")))
    np.testing.assert_array_equal(read_idx(path), [[1, -1], [256, -32768]])
    assert read_idx(path).dtype == np.int16


def test_gzip_is_told_by_content(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(idx_bytes())
    (tmp_path / "packed").write_bytes(gzip.compress(idx_bytes()))
    assert read_idx(tmp_path / "plain.gz").shape == read_idx(tmp_path / "packed").shape == (2, 3)


WRONG_IDX = [
    (b"", "not an IDX file"),
    (b"\0\0\x08", "not an IDX file"),
    (b"PK\x03\x04" + bytes(20), "not an IDX file"),
    (idx_bytes(code=0x0A), "type code 0x0a"),
    (idx_bytes(sizes=()), "0 dimensions"),
    (bytes((0, 0, 8, 255)) + bytes(1100), "255 dimensions"),
    (idx_bytes()[:10], "truncated inside its header"),
    (idx_bytes(data=bytes(5)), r"truncated.*2x3 uint8 \(6 bytes\).* 5"),
    (idx_bytes(data=bytes(7)), "bytes after the 2x3 uint8"),
    (idx_bytes(sizes=(2**32 - 1,) * 5), "header is wrong"),
    (idx_bytes(sizes=(2**32 - 1, 2**32 - 1, 0), data=b""), "header is wrong"),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("raw", "why"), WRONG_IDX)
def test_wrong_idx_files(tmp_path: Path, raw: bytes, why: str, packed: bool) -> None:
    path = tmp_path / "wrong-one"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(ValueError, match=why) as caught:
        read_idx(path)
    assert "wrong-one" in str(caught.value)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=64), start=st.sampled_from([b"", b"\0\0\x08\x01", b"\x1f\x8b\x08"]))
def test_noise_gives_an_array_or_a_value_error(tmp_path: Path, raw: bytes, start: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(start + raw)
    try:
        held = read_idx(path).nbytes
    except ValueError as error:
        held = 0
        assert "noise" in str(error)  # noqa: PT017
    assert held <= len(raw)


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "damaged.gz"
    whole = gzip.compress(idx_bytes(sizes=(1000,), data=bytes(range(250)) * 4))
    for broken in (whole[:-5], whole[:20], whole[:-8] + b"\0" * 8, whole + b"junk"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"damaged.gz: damaged or truncated gzip"):
            read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
def test_memory_is_bounded_by_what_the_file_holds(tmp_path: Path, packed: bool) -> None:
    bomb = gzip.compress(idx_bytes(sizes=(10,), data=bytes(50_000_000)))
    liar = gzip.compress(idx_bytes(sizes=(2**31,), data=bytes(1000)) + bytes(3_000_000))
    claims = idx_bytes(sizes=(2**31,), data=bytes(1000))
    for raw in (bomb, liar) if packed else (claims,):
        (tmp_path / "liar").write_bytes(raw)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"bytes after|announces"):
                read_idx(tmp_path / "liar")
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()


def test_what_idx_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="int64"):
        write_idx(tmp_path / "x", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="shape"):
        write_idx(tmp_path / "x", np.zeros((), np.uint8))
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "x")


# Digits


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    theirs = datasets.load_digits()
    X, y = load_digits()
    np.testing.assert_array_equal(X, theirs.data)
    np.testing.assert_array_equal(y, theirs.target)


def test_digits() -> None:
    X, y = load_digits()
    assert X.shape == (1797, 64)
    assert X.dtype == np.uint8
    assert X.max() == 16
    assert y.shape == (1797,)
    assert y.dtype == np.int64
    assert set(y) == set(range(10))
    np.testing.assert_array_equal(load_digits("signed", "float64").X, (X / 16 - 0.5) * 2)
    assert load_digits("unit").X.dtype == np.float32
    with pytest.raises(ValueError, match="'minmax', wants one of none, unit"):
        load_digits("minmax")


# MNIST

SHAPES = {"train": 60_000, "t10k": 10_000}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like MNIST's, of random pixels, with all four ways to name a file."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    names = ["train-images-idx3-ubyte", "t10k-images.idx3-ubyte"]
    for (part, rows), name in zip(SHAPES.items(), names, strict=True):
        write_idx(folder / name, rng.integers(0, 256, (rows, 28, 28), np.uint8))
        ending = "-labels-idx1-ubyte.gz" if part == "train" else "-labels.idx1-ubyte.gz"
        write_idx(folder / (part + ending), rng.integers(0, 10, rows, np.uint8))
    return folder


def test_a_folder_of_images(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = load_mnist(images)
    assert raw.X_train.shape == (60_000, 784)
    assert raw.X_test.shape == (10_000, 784)
    assert raw.X_train.dtype == np.uint8
    assert raw.y_train.dtype == np.int64
    monkeypatch.setenv("FASTMLP_MNIST", str(images))
    monkeypatch.setenv("FASTMLP_FASHION_MNIST", str(images))
    for again in (load_mnist(), load_fashion_mnist()):
        assert all(np.array_equal(one, other) for one, other in zip(raw, again, strict=True))


def test_scalings_of_images(images: Path) -> None:
    raw = load_mnist(images)
    X = raw.X_train[:300]
    mean, spread = raw.X_train.mean(axis=0), raw.X_train.std()
    wanted = {"unit": X / 255, "signed": ((X / 255) - 0.5) * 2, "centred": (X - mean) / spread}
    for scaling, numbers in wanted.items():
        found = load_mnist(images, scaling)
        assert found.X_train.dtype == found.X_test.dtype == np.float32
        if scaling == "centred":
            np.testing.assert_allclose(found.X_train[:300], numbers, rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_array_equal(found.X_train[:300], numbers.astype(np.float32))
    assert abs(load_mnist(images, "centred").X_train.mean()) < 1e-6


def test_folders_that_are_not_mnist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte, .*\.gz"):
        load_mnist(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((5, 28, 28), np.uint8))
    with pytest.raises(ValueError, match=r"holds uint8 \(5, 28, 28\), wants uint8 \(60000"):
        load_mnist(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((60_000, 28, 28), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(60_000, 10, np.uint8))
    with pytest.raises(ValueError, match="has the label 10"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("trouble", [ImportError("no sklearn"), OSError("no network")])
def test_three_ways_where_there_is_no_data(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def fetch_openml(*_arguments: object, **_options: object) -> None:
        raise trouble

    monkeypatch.delenv("FASTMLP_MNIST", raising=False)
    fake = types.ModuleType("sklearn.datasets")
    fake.fetch_openml = fetch_openml  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sklearn", types.ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", fake)
    with pytest.raises(FileNotFoundError, match=r"folder=.*FASTMLP_MNIST.*scikit-learn") as caught:
        load_mnist()
    assert str(trouble) in str(caught.value)


def test_a_download_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch_openml(name: str, version: int, as_frame: bool) -> types.SimpleNamespace:
        assert (name, version, as_frame) == ("Fashion-MNIST", 1, False)
        labels = np.array([str(row % 10) for row in range(70_000)], object)
        return types.SimpleNamespace(data=np.ones((70_000, 784), np.int64), target=labels)

    monkeypatch.delenv("FASTMLP_FASHION_MNIST", raising=False)
    fake = types.ModuleType("sklearn.datasets")
    fake.fetch_openml = fetch_openml  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sklearn", types.ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", fake)
    data = load_fashion_mnist()
    assert data.X_train.shape == (60_000, 784)
    assert data.X_test.dtype == np.uint8
    np.testing.assert_array_equal(data.y_test, np.arange(10_000) % 10)


@pytest.mark.mnist
def test_real_mnist(mnist_folder: Path) -> None:
    data = load_mnist(mnist_folder)
    header = struct.pack(">IIII", 2051, 60_000, 28, 28)
    digest = hashlib.md5(header + data.X_train.tobytes(), usedforsecurity=False).hexdigest()
    assert digest == "6bbc9ace898e44ae57da46a324031adb"
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(data.y_test).tolist() == [
        *(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    ]


@pytest.mark.mnist
def test_real_fashion_mnist(fashion_mnist_folder: Path) -> None:
    data = load_fashion_mnist(fashion_mnist_folder)
    assert np.bincount(data.y_train).tolist() == [6000] * 10
    assert data.y_train[:5].tolist() == [9, 0, 0, 3, 0]


# Scaling


@pytest.mark.parametrize("how", SCALINGS)
@pytest.mark.parametrize("top", [None, 10.0])
def test_scalings(how: str, top: float | None, rng: np.random.Generator) -> None:
    X = rng.uniform(0, 10, (50, 4)) * [1, 0.1, 1, 0] + 0.1
    scale = Standardize.fit(X, how, top)
    found = scale.apply(X, "float64")
    mean, low, width = X.mean(axis=0), X.min(axis=0), X.max(axis=0) - X.min(axis=0)
    unit = X / top if top else (X - low) / np.where(width > 0, width, 1)
    spread = np.where(width > 0, X.std(axis=0), 1)
    wanted = {
        "none": X,
        "unit": unit,
        "signed": (unit - 0.5) * 2,
        "centred": (X - mean) / X.std(),
        "standard": (X - mean) / spread,
    }
    varying = slice(0, 3) if how == "signed" and top is None else slice(None)
    np.testing.assert_allclose(found[:, varying], wanted[how][:, varying], rtol=1e-12, atol=1e-12)
    again = Standardize.from_dict(scale.to_dict())
    np.testing.assert_array_equal(again.apply(X, "float64"), found)
    assert np.isfinite(found).all()


def test_parts_of_a_scaling_give_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(1).normal(size=(1000, 3)).astype(np.float32)
    whole = Standardize.fit(X).apply(X)
    monkeypatch.setattr("fastmlp.datasets.scaling._CHUNK", 10)
    np.testing.assert_allclose(Standardize.fit(X).apply(X), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("X", "why"),
    [
        ([1.0, 2.0], r"got float64 \(2,\)"),
        (np.empty((0, 3)), r"\(0, 3\)"),
        ([["a"]], "<U1"),
        ([[1e200], [-1e200]], "finite"),
        ([[np.nan], [1.0]], "finite"),
    ],
)
def test_what_cannot_be_scaled(X: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Standardize.fit(X)


def test_scalings_are_checked() -> None:
    scale = Standardize.fit(np.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match=r"\(4, 2\), wants \(rows, 3\)"):
        scale.apply(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="3 and 2 features"):
        Standardize(np.zeros(3), np.ones(2))
    with pytest.raises(ValueError, match="other than 0"):
        Standardize(np.zeros(3), np.zeros(3))
    for record in ({}, {"mean": 0, "scale": "x", "divisor": 1}, {"mean": 0, "scale": 1}, []):
        with pytest.raises(ValueError, match=r".+"):
            Standardize.from_dict(record)  # type: ignore[arg-type]


# CSV


def csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_table_with_names_and_text(tmp_path: Path) -> None:
    path = csv(tmp_path, "\ufeffa,b,kind\r\n1,2,dog\r\n\r\n3,-4e2,cat\r\n 5 ,.6,dog")
    table = load_csv(path)
    np.testing.assert_array_equal(table.X, [[1, 2], [3, -400], [5, 0.6]])
    np.testing.assert_array_equal(table.y, [1, 0, 1])
    assert table.y is not None
    assert table.y.dtype == np.int64
    assert table.classes == ("cat", "dog")
    assert table.columns == ("a", "b")
    assert table.target == "kind"


@pytest.mark.parametrize("target", ["b", 1, -2])
def test_the_target_may_stand_anywhere(tmp_path: Path, target: int | str) -> None:
    table = load_csv(csv(tmp_path, "a;b;c\n1;2.5;3\n4;5;6\n"), target)
    np.testing.assert_array_equal(table.X, [[1, 3], [4, 6]])
    np.testing.assert_array_equal(table.y, [2.5, 5])
    assert table.columns == ("a", "c")
    assert table.target == "b"
    assert table.place == 1


def test_without_target_or_names(tmp_path: Path) -> None:
    table = load_csv(csv(tmp_path, '1\t2\n"3"\t4\n'), None)
    np.testing.assert_array_equal(table.X, [[1, 2], [3, 4]])
    assert table[1:] == (None,) * 5
    assert load_csv(csv(tmp_path, "1|2|x\n3|4|y\n")).classes == ("x", "y")
    assert load_csv(csv(tmp_path, "1,2\n3,4\n"), header=True).columns == ("1",)


def test_a_comma_inside_quotes_and_other_delimiters(tmp_path: Path) -> None:
    assert load_csv(csv(tmp_path, '1,"a, b"\n2,c\n')).classes == ("a, b", "c")
    table = load_csv(csv(tmp_path, "1:2\n3:4\n"), delimiter=":")
    np.testing.assert_array_equal(table.y, [2, 4])


WRONG_CSV = [
    ("", "has no rows"),
    ("\n\n", "has no rows"),
    ("a,b\n", "no rows but a header"),
    ("1\n2\n", "one column only"),
    ("a,b,c\n1,2,3\n1,2\n", "line 3: 2 columns, others have 3"),
    ("a,b,c\n1,2,3\n\n1,,3\n", "line 4, column 2: missing value ''"),
    ("1,?,3\n", "line 1, column 2: missing value '?'"),
    ("1,2,3\n1,NA,3\n", "line 2, column 2: missing value 'NA'"),
    ("1,2,3\n4,nan,3\n", "line 2, column 2: missing value"),
    ("1,2,3\ninf,2,3\n", "line 2, column 1: infinite value"),
    ("1,2,3\n1,red,3\n", "line 2, column 2: not a number: 'red'"),
    ("1,2,3\n1,1_000,3\n", "line 2, column 2: not a number: '1_000'"),
    ("1,2,3\n1,2,\n", "line 2, column 3 .the target.: missing or infinite: ''"),
    ("1,2.5\n1,2\n1,x\n", "line 3, column 2 .the target.: not a number: 'x'"),
    ('1,2\n1,"2\n', "line 2: unexpected end"),
    ('1,2\n1,"2"3\n', "line 2: "),
]


@pytest.mark.parametrize(("text", "why"), WRONG_CSV)
def test_wrong_tables(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=rf"table\.csv.*{why.replace('?', '[?]')}"):
        load_csv(csv(tmp_path, text))


def test_columns_are_counted_as_in_the_file(tmp_path: Path) -> None:
    for target, column in ((0, 3), (1, 3), (2, 2)):
        cells = ["1", "1", "1"]
        cells[column - 1] = "nan"
        with pytest.raises(ValueError, match=f"line 2, column {column}: missing"):
            load_csv(csv(tmp_path, f"1,1,1\n{','.join(cells)}\n"), target)
        cells[column - 1] = "x"
        with pytest.raises(ValueError, match=f"line 2, column {column}: not a number"):
            load_csv(csv(tmp_path, f"1,1,1\n{','.join(cells)}\n"), target)


def test_wrong_arguments_for_a_table(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"one column named 'z', its header has a, b"):
        load_csv(path, "z")
    with pytest.raises(ValueError, match=r"column 5, .* has 2 columns"):
        load_csv(path, 5)
    with pytest.raises(ValueError, match="delimiter: got 'ab'"):
        load_csv(path, delimiter="ab")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        load_csv(csv(tmp_path, "é,b\n1,2\n", "latin-1"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.integers(2, 5)),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    ),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
)
def test_numbers_come_back_from_text(tmp_path: Path, numbers: np.ndarray, delimiter: str) -> None:
    text = "\n".join(delimiter.join(map(repr, row)) for row in numbers.tolist())
    table = load_csv(csv(tmp_path, text))
    np.testing.assert_array_equal(table.X, numbers[:, :-1])
    np.testing.assert_array_equal(table.y, numbers[:, -1])


# NPZ


def test_arrays_of_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    images = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    np.savez(path, X=images, y=np.array(["b", "a", "b"]), values=np.array([1.5, 2, 3]))
    table = load_npz(path)
    np.testing.assert_array_equal(table.X, images.reshape(3, 8))
    assert table.X.dtype == np.uint8
    np.testing.assert_array_equal(table.y, [1, 0, 1])
    assert table.classes == ("a", "b")
    np.testing.assert_array_equal(load_npz(path, y="values").y, [1.5, 2, 3])
    assert load_npz(path, y=None).y is None


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"X": np.ones((2, 2))}, "has no array 'y', but X"),
        ({"X": np.ones((2, 2)), "y": np.ones(3)}, "y has the shape .3,., X 2 rows"),
        ({"X": np.ones(2), "y": np.ones(2)}, "X has the shape"),
        ({"X": np.array([[1.0, np.nan]]), "y": np.ones(1)}, r"X holds nan at \(0, 1\)"),
        ({"X": np.array([["a"]]), "y": np.ones(1)}, "X holds <U1"),
        ({"X": np.array([[None]]), "y": np.ones(1)}, "allow_pickle=False"),
        ({"X": np.ones((2, 2)), "y": np.array([1, 2j])}, "y holds complex128"),
    ],
)
def test_wrong_npz(tmp_path: Path, arrays: dict[str, np.ndarray], why: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(ValueError, match=rf"data\.npz: .*{why}"):
        load_npz(path)


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).normal(size=(50, 3)), y=np.ones(50))
    whole = path.read_bytes()
    np.save(tmp_path / "single.npy", np.ones((2, 2)))
    single = (tmp_path / "single.npy").read_bytes()
    middle = bytearray(whole)
    middle[200:220] = bytes(20)
    for raw in (b"", b"junk", whole[:-30], single, bytes(middle)):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"data\.npz: not a"):
            load_npz(path)
