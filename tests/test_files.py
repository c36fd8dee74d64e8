"""Saved files: what goes in comes out, what was altered is refused, what is killed does no harm."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastmlp import files
from fastmlp.files import FileFormatError, load, save

CONFIG = {"layers": [3, 2], "rate": 0.1, "name": "Δ", "none": None, "seed": 2**127 + 1}
ARRAYS = {
    "weights.0": np.arange(6, dtype=np.float32).reshape(3, 2),
    "flags": np.array([True, False, True]),
    "slots": np.linspace(0, 1, 7),
    "empty": np.empty((0, 4), np.int16),
    "scalar": np.array(7, np.uint8),
}
DTYPES = [*map(np.dtype, ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"))]

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
arrays = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_dims=4))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save(path, CONFIG, ARRAYS)
    return path


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert set(one) == set(other)
    for name, array in one.items():
        assert other[name].dtype == array.dtype
        assert other[name].shape == array.shape
        assert other[name].tobytes() == array.tobytes()


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def put(path: Path, header: object, data: bytes = b"") -> None:
    """Write a file with this header, which is JSON text or becomes it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


# There and back


def test_what_goes_in_comes_out(saved: Path) -> None:
    config, arrays = load(saved)
    assert config == CONFIG
    assert_same(ARRAYS, arrays)
    assert all(array.flags.writeable and array.flags.aligned for array in arrays.values())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.dictionaries(st.text(), json_values, max_size=4),
    arrays=st.dictionaries(st.text().filter(lambda n: n != "__metadata__"), arrays, max_size=4),
)
def test_anything_comes_back(tmp_path: Path, config: Any, arrays: Any) -> None:
    save(tmp_path / "any", config, arrays)
    found, numbers = load(tmp_path / "any")
    assert found == config
    assert_same(arrays, numbers)


def test_strided_and_big_endian_arrays(tmp_path: Path) -> None:
    square = np.arange(12.0).reshape(3, 4)
    save(tmp_path / "a", {}, {"t": square.T[::2], "b": square.astype(">f4")})
    _, arrays = load(tmp_path / "a")
    assert_same({"t": np.ascontiguousarray(square.T[::2]), "b": square.astype(np.float32)}, arrays)


def test_the_layout_is_aligned(saved: Path) -> None:
    header, _ = parts(saved)
    del header["__metadata__"]
    for name, entry in header.items():
        assert entry["data_offsets"][0] % ARRAYS[name].itemsize == 0
    assert int.from_bytes(saved.read_bytes()[:8], "little") % 8 == 0


def test_safetensors_reads_ours(saved: Path) -> None:
    package = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    assert_same(ARRAYS, package.load_file(saved))


def test_ours_reads_what_safetensors_writes(saved: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    metadata = parts(saved)[0]["__metadata__"] | {"sha256": "0" * 64}
    theirs = tmp_path / "theirs"
    package.save_file(ARRAYS, theirs, metadata=metadata)
    raw = theirs.read_bytes()
    digest = files.hashlib.sha256(raw).hexdigest().encode()
    theirs.write_bytes(raw.replace(b"0" * 64, digest, 1))
    config, arrays = load(theirs)
    assert config == CONFIG
    assert_same(ARRAYS, arrays)


def test_safetensors_files_of_others_are_named_as_such(tmp_path: Path) -> None:
    package = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    package.save_file({"a": np.ones(3)}, tmp_path / "theirs")
    with pytest.raises(FileFormatError, match="not a network that fastmlp saved"):
        load(tmp_path / "theirs")


# Refusals


def test_every_altered_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small"
    save(path, {"a": 1}, {"w": np.arange(3, dtype=np.float32)})
    whole = path.read_bytes()
    for place in range(len(whole)):
        for flip in (1, 0x20, 0x80):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            path.write_bytes(damaged)
            with pytest.raises(FileFormatError):
                load(path)


def test_every_truncation_and_extension_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small"
    save(path, {"a": 1}, {"w": np.arange(3, dtype=np.float32)})
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(FileFormatError):
            load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(FileFormatError, match=r"small: extended: it has 13 bytes.* wants 12"):
        load(path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200))
def test_noise_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(raw)
    with pytest.raises(FileFormatError):
        load(path)


def test_a_newer_version_asks_for_an_upgrade(saved: Path) -> None:
    header, data = parts(saved)
    header["__metadata__"]["version"] = "2"
    header["__metadata__"]["more"] = "of the future"
    put(saved, header, data)
    with pytest.raises(FileFormatError, match=r"newer fastmlp.*version 2.*upgrade"):
        load(saved)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"a": ENTRY, "b": ENTRY}, "'b' lies at"),
        ({"a": ENTRY | {"data_offsets": [8, 16]}, "b": ENTRY}, "'a' lies at"),
        ({"a": ENTRY | {"data_offsets": [0, 12]}}, "lies at"),
        ({"a": ENTRY | {"data_offsets": [0, 2**70]}}, "place that is none"),
        ({"a": ENTRY | {"data_offsets": [-8, 0]}}, "place that is none"),
        ({"a": ENTRY | {"data_offsets": [0, 8.0]}}, "place that is none"),
        ({"a": ENTRY | {"shape": [True, 2]}}, "place that is none"),
        ({"a": ENTRY | {"shape": [2**40, 2**40, 0]}}, "impossible shape"),
        ({"a": ENTRY | {"shape": [1] * 40 + [2]}}, "impossible shape"),
        ({"a": ENTRY | {"shape": [2**50], "data_offsets": [0, 2**52]}}, "truncated"),
        ({"a": ENTRY | {"dtype": "BF16"}}, "unknown type 'BF16'"),
        ({"a": ENTRY | {"dtype": ["F32"]}}, "unknown type"),
        ({"a": ENTRY | {"extra": 1}}, "lacks a type"),
        ({"a": [1, 2]}, "lacks a type"),
    ],
)
def test_wrong_layouts_are_refused(saved: Path, entries: dict[str, Any], why: str) -> None:
    metadata = parts(saved)[0]["__metadata__"]
    put(saved, {"__metadata__": metadata} | entries, bytes(16))
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=why):
            load(saved)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": "\xff"}', "isn't UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"[1, 2]", "no JSON object"),
        (b" {}", "no JSON object"),
        (b'{"a": 1', "no JSON"),
        (b"{}", "not a network"),
        (b'{"__metadata__": []}', "not a network"),
        (b'{"__metadata__": {"format": "fastmlp"}}', "version"),
        (b'{"__metadata__": {"format": "fastmlp", "version": "-1"}}', "version"),
        (b'{"__metadata__": {"format": "fastmlp", "version": "1"}}', "metadata"),
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, header: bytes, why: str) -> None:
    put(tmp_path / "wrong", header)
    with pytest.raises(FileFormatError, match=why):
        load(tmp_path / "wrong")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused(tmp_path: Path, opening: bytes) -> None:
    put(tmp_path / "deep", b'{"a":' + opening * 200_000)
    with pytest.raises(FileFormatError, match="nested too deeply"):
        load(tmp_path / "deep")


@pytest.mark.parametrize("length", [0, 1, 17, 2**32, 2**63, 2**64 - 1])
def test_a_wrong_header_length_allocates_nothing(tmp_path: Path, length: int) -> None:
    path = tmp_path / "huge"
    path.write_bytes(length.to_bytes(8, "little") + b"{}      " * 2)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="announce a header"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def resealed(path: Path, **changes: str) -> None:
    """Change metadata and give the file a checksum that fits."""
    header, data = parts(path)
    header["__metadata__"] |= changes | {"sha256": "0" * 64}
    put(path, header, data)
    raw = path.read_bytes()
    digest = files.hashlib.sha256(raw).hexdigest().encode()
    path.write_bytes(raw.replace(b"0" * 64, digest, 1))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("[]", "no JSON object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 1}', "twice"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ("import os", "no JSON"),
    ],
)
def test_wrong_configurations_are_refused(saved: Path, config: str, why: str) -> None:
    resealed(saved, config=config)
    with pytest.raises(FileFormatError, match=f"configuration.*{why}"):
        load(saved)


def test_lone_surrogates_do_no_harm(saved: Path) -> None:
    resealed(saved, config='{"a": "\ud800"}')
    assert load(saved)[0] == {"a": "\ud800"}


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"a": float("nan")}, ValueError),
        ({"a": {1, 2}}, TypeError),
        ({"a": np.float32(1)}, TypeError),
    ],
)
def test_a_config_that_json_cannot_hold(tmp_path: Path, config: Any, error: type) -> None:
    with pytest.raises(error, match="config"):
        save(tmp_path / "new", config, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["O", "U3", "c16", "M8[s]", "S2", "g"])
def test_arrays_that_cannot_be_stored(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(TypeError, match="arrays: a is of type"):
        save(tmp_path / "new", {}, {"a": np.zeros(2, dtype)})
    with pytest.raises(ValueError, match="__metadata__"):
        save(tmp_path / "new", {}, {"__metadata__": np.zeros(2)})


# Places


def test_a_missing_folder_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"can't save.*nowhere") as caught:
        save(tmp_path / "nowhere" / "net", {}, {})
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(IsADirectoryError, match="can't save"):
        save(tmp_path, {}, {})
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="needs devices")
def test_devices_are_left_alone() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        save(os.devnull, {}, {})
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_read_only_file_is_left_alone(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An administrator may write everywhere, so the answer of the system is set.
    monkeypatch.setattr(files.os, "access", lambda _path, _mode: False)
    with pytest.raises(PermissionError, match="can't save"):
        save(saved, {}, {})
    assert load(saved)[0] == CONFIG


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_permissions_of_a_new_and_of_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "net"
    before = os.umask(0o027)
    try:
        save(path, {}, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        save(path, {"again": 1}, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(tmp_path / "net-1")
    save(link, {"a": 1}, {})
    assert link.is_symlink()
    assert load(tmp_path / "net-1")[0] == {"a": 1}


def test_a_failed_write_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="can't save: No space left") as caught:
        save(saved, {"new": 1}, {})
    assert caught.value.errno == errno.ENOSPC
    assert load(saved)[0] == CONFIG
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


SAVES_FOREVER = """
import itertools, sys
import numpy as np
from fastmlp.files import load, save
path = sys.argv[1]
for number in itertools.count(load(path)[0]["number"] + 1):
    save(path, {"number": number}, {"w": np.full(200_000, number, np.float32)})
    print(number, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_save_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "net"
    save(path, {"number": 0}, {"w": np.zeros(200_000, np.float32)})
    moments = random.Random(20260401)
    last = 0
    for _ in range(20):
        command = [sys.executable, "-c", SAVES_FOREVER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            reported = int(child.stdout.readline())
            time.sleep(moments.uniform(0, 0.03))
            child.send_signal(signal.SIGKILL)
            reported = max([reported, *map(int, child.stdout.read().split())])
        config, arrays = load(path)
        assert config["number"] in (reported, reported + 1)
        assert config["number"] > last
        assert (arrays["w"] == config["number"]).all()
        last = config["number"]
