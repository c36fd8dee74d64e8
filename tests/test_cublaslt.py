"""Products by cuBLASLt: the numbers of its header, what goes through ctypes, and what is refused.

Without a GPU the library's functions are those of `hostcuda.cublaslt`, but for the tests at the
end, which ask the library itself what it makes of our descriptors.
"""

from __future__ import annotations

import ctypes
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import kernels
from fastmlp.kernels import driver

from .conftest import ON_DEVICE
from .draws import on_device
from .hostcuda import cublas as standin_cublas
from .hostcuda import cublaslt as standin
from .tolerances import assert_close

if kernels.available()["cupy"] is not None:
    pytest.skip(f"backend cupy: {kernels.available()['cupy']}", allow_module_level=True)

kernels.load("cupy")

import cupy  # noqa: E402

from fastmlp.kernels.cupy_gpu import cublaslt, gemm  # noqa: E402

RECORD = json.loads((Path(__file__).parent / "data" / "cublaslt.json").read_text())

over_the_stand_in = pytest.mark.skipif(ON_DEVICE, reason="looks into the stand-in")

if ON_DEVICE and cublaslt.missing() is not None:
    pytest.skip(str(cublaslt.missing()), allow_module_level=True)


# The numbers of the header


def test_constants_are_those_of_the_header() -> None:
    """`record_cublaslt.py` has read them, and compared the signatures."""
    found = RECORD["enumerators"]
    for name in ("R_32F", "R_64F", "R_16BF"):
        assert getattr(cublaslt, name) == getattr(standin_cublas, name) == found[f"CUDA_{name}"]
    for name in ("COMPUTE_32F", "COMPUTE_64F", "COMPUTE_32F_FAST_TF32"):
        assert getattr(cublaslt, name) == found[f"CUBLAS_{name}"]
    assert found["CUBLAS_COMPUTE_32F_FAST_TF32"] == standin_cublas.FAST_TF32
    assert (found["CUBLAS_OP_N"], found["CUBLAS_OP_T"]) == (cublaslt.PLAIN, cublaslt.TRANSPOSED)
    for name in ("TRANSA", "TRANSB", "EPILOGUE", "BIAS_POINTER"):
        assert getattr(cublaslt, f"DESC_{name}") == found[f"CUBLASLT_MATMUL_DESC_{name}"]
    assert found["CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES"] == cublaslt.PREF_WORKSPACE
    places = [found[f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{which}_BYTES"] for which in "ABCD"]
    assert list(cublaslt.PREF_ALIGNMENTS) == places
    assert found["CUBLASLT_EPILOGUE_BIAS"] == cublaslt.EPILOGUE_BIAS
    ours = {found["CUBLASLT_EPILOGUE_DEFAULT"], found["CUBLASLT_EPILOGUE_BIAS"]}
    assert ours == standin.EPILOGUES
    statuses = {0: "SUCCESS", **cublaslt.STATUSES}
    known = {v: n.removeprefix("CUBLAS_STATUS_") for n, v in found.items() if "STATUS" in n}
    assert statuses == known


def test_structures_are_those_of_the_header() -> None:
    sizes = RECORD["sizes"]
    assert ctypes.sizeof(cublaslt.Algorithm) == sizes["cublasLtMatmulAlgo_t"]
    assert ctypes.sizeof(cublaslt.Heuristic) == sizes["cublasLtMatmulHeuristicResult_t"]
    assert ctypes.sizeof(ctypes.c_void_p) == sizes["cublasLtHandle_t"]
    assert ctypes.sizeof(ctypes.c_int) == sizes["cublasStatus_t"]
    fields = ("algorithm", "workspace", "state", "waves", "reserved")
    offsets = [getattr(cublaslt.Heuristic, name).offset for name in fields]
    assert offsets == list(RECORD["offsets"].values())


@over_the_stand_in
def test_the_stand_in_has_the_librarys_functions() -> None:
    pointers = {name: function[1] for name, function in standin.FUNCTIONS.items()}
    assert pointers == {n: a for n, a in cublaslt.SIGNATURES.items() if n != "cublasLtGetVersion"}


# Products

PRECISIONS = ("float32", "tf32", "float64", "bfloat16")


def _stored(x: Any, precision: str) -> Any:
    """Numbers as a precision stores them: bfloat16 as 16 bits, cut off."""
    if precision == "bfloat16":
        return (np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return x.astype("float64" if precision == "float64" else "float32")


def _wide(x: Any) -> Any:
    if x.dtype != np.uint16:
        return x.astype(np.float64)
    return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def _factor(rng: np.random.Generator, shape: tuple[int, int], turned: bool, precision: str) -> Any:
    """A matrix of this shape on the device, plain or as a transposed view, and its numbers."""
    host = _stored(rng.normal(size=shape[::-1] if turned else shape), precision)
    array = on_device(host)
    return (array.T, _wide(host).T) if turned else (array, _wide(host))


SHAPES = [(5, 7, 3), (1, 1, 1), (1, 9, 4), (33, 1, 2), (64, 300, 10), (2, 130, 1)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_those_of_numpy(
    shape: tuple[int, int, int],
    turned: tuple[bool, bool],
    precision: str,
    rng: np.random.Generator,
) -> None:
    rows, inner, columns = shape
    A, a = _factor(rng, (rows, inner), turned[0], precision)
    B, b = _factor(rng, (inner, columns), turned[1], precision)
    kinds = ["float32", "uint16"] if precision == "bfloat16" else [A.dtype.name]
    for kind in kinds:
        out, plain = cupy.empty((rows, columns), kind), cupy.empty((rows, columns), kind)
        cublaslt.Products(precision)(out, A, B)()
        gemm.product(precision)(plain, A, B)
        found = _wide(out.get())
        narrow = {"tf32": 2e-3, "bfloat16": 1e-2 if kind == "uint16" else 1e-5}.get(precision)
        if narrow is None:
            assert_close(found, a @ b, "product", precision)
            assert_close(found, plain.get(), "product", precision)
        else:
            scale = np.linalg.norm(a) * np.linalg.norm(b)
            assert np.abs(found - a @ b).max() <= narrow * scale
            assert np.abs(found - _wide(plain.get())).max() <= narrow * scale


@pytest.mark.parametrize("precision", ["float32", "tf32", "float64"])
def test_a_bias_is_one_of_each_column(precision: str, rng: np.random.Generator) -> None:
    A, a = _factor(rng, (9, 20), False, precision)
    B, b = _factor(rng, (20, 5), False, precision)
    bias = _stored(rng.normal(size=5), precision)
    out = cupy.empty((9, 5), bias.dtype)
    cublaslt.Products(precision)(out, A, B, on_device(bias))()
    near = "product", "float64" if precision == "float64" else "float32"
    if precision == "tf32":
        assert np.abs(out.get() - (a @ b + bias)).max() < 0.03
    else:
        assert_close(out.get(), a @ b + bias, *near)


def test_a_product_runs_again_on_what_lies_there_then(rng: np.random.Generator) -> None:
    A, _ = _factor(rng, (4, 6), False, "float32")
    B, b = _factor(rng, (6, 3), False, "float32")
    out = cupy.empty((4, 3), "float32")
    step = cublaslt.Products("float32")(out, A, B)
    for _ in range(3):
        again = rng.normal(size=(4, 6)).astype(np.float32)
        A.set(again)
        step()
        assert_close(out.get(), again @ b, "product", "float32")


@pytest.mark.parametrize("address", [256, 512, 4096, 128, 3 * 64, 16, 4, 6, 7])
def test_alignment_is_a_power_of_two_that_divides(address: int) -> None:
    found = cublaslt.alignment(address)
    assert address % found == 0
    assert found == 256 or address % (2 * found)


@over_the_stand_in
def test_parts_of_a_vector_have_the_alignment_that_they_have(rng: np.random.Generator) -> None:
    """The stand-in refuses an algorithm that wants more than a pointer has."""
    flat = cupy.zeros(100, "float32")
    for first in range(5):
        A = flat[first : first + 12].reshape(3, 4)
        out = cupy.empty((3, 3), "float32")
        cublaslt.Products("float32")(out, A, A.T)()
        assert not out.get().any()


@over_the_stand_in
def test_descriptors_go_with_their_product(rng: np.random.Generator) -> None:
    gc.collect()
    before = [standin.living(kind) for kind in ("operation", "layout", "preference")]
    A, _ = _factor(rng, (4, 4), False, "float32")
    step = cublaslt.Products("float32")(cupy.empty((4, 4), "float32"), A, A.T)
    assert standin.living("operation") == before[0] + 1
    assert standin.living("preference") == before[2]
    del step
    gc.collect()
    assert [standin.living(kind) for kind in ("operation", "layout", "preference")] == before


@over_the_stand_in
def test_products_of_a_plan_share_their_workspace(rng: np.random.Generator) -> None:
    products = cublaslt.Products("float32")
    long, _ = _factor(rng, (3, 300), False, "float32")
    longer, _ = _factor(rng, (9, 300), False, "float32")
    steps = []
    for A in (long, longer, long):
        rows = A.shape[0]
        steps.append(products(cupy.empty((rows, rows), "float32"), A, A.T))
    first, second, third = (step.args[0].scratch for step in steps)  # type: ignore[attr-defined]
    assert first.size < second.size
    assert third is second
    for step in steps:
        step()


# What the library refuses


def _square() -> tuple[Any, ...]:
    return tuple(cupy.zeros((4, 4), "float32") for _ in range(3))


def _unlike(product: Any) -> None:
    """Layouts of other matrices than the algorithm was chosen for."""
    other = cublaslt.Product(cublaslt.Products("tf32"), *_square(), None)
    arguments = list(product.arguments)
    arguments[1] = other.arguments[1]
    product.arguments = tuple(arguments)


def _place(place: int, value: Any) -> Callable[[Any], None]:
    def change(product: Any) -> None:
        arguments = list(product.arguments)
        arguments[place] = value(arguments[place])
        product.arguments = tuple(arguments)

    return change


def _first_as_c(product: Any) -> None:
    arguments = list(product.arguments)
    arguments[8] = arguments[3]
    product.arguments = tuple(arguments)


BREACHES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a handle of nobody": (_place(0, lambda _: 12345), "no handle"),
    "another operation": (_unlike, "chosen for something else"),
    "a factor outside the memory": (
        _place(3, lambda a: ctypes.c_void_p(a.value + (1 << 40))),
        "illegal memory access",
    ),
    "the end of a factor outside the memory": (
        _place(3, lambda a: ctypes.c_void_p(a.value + 4)),
        "illegal memory access",
    ),
    "C that is not D": (_first_as_c, "C is not D"),
    "an algorithm of zeros": (
        _place(12, lambda _: ctypes.byref(cublaslt.Algorithm())),
        "chosen for something else",
    ),
}


@over_the_stand_in
@pytest.mark.parametrize("what", BREACHES)
def test_the_stand_in_refuses(what: str) -> None:
    change, message = BREACHES[what]
    step = cublaslt.Products("float32")(*_square())
    step()
    change(step.args[0])  # type: ignore[attr-defined]
    standin.TROUBLE.clear()
    with pytest.raises(RuntimeError, match="cublasLtMatmul gave CUBLAS_STATUS_INVALID_VALUE"):
        step()
    assert any(message in trouble for trouble in standin.TROUBLE), standin.TROUBLE


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "an attribute of another size": (
        lambda: cublaslt._set(
            "MatmulDesc", cublaslt._made("MatmulDesc", 68, 0), 3, ctypes.c_uint64(0)
        ),
        "has not 8 bytes",
    ),
    "an unknown attribute": (
        lambda: cublaslt._set(
            "MatmulDesc", cublaslt._made("MatmulDesc", 68, 0), 99, ctypes.c_int32(0)
        ),
        "attribute 99",
    ),
    "types that don't go together": (lambda: cublaslt._made("MatmulDesc", 68, 1), "scale type 1"),
    "columns that overlap": (lambda: cublaslt._made("MatrixLayout", 0, 4, 4, 3), "3 from each"),
}


@over_the_stand_in
@pytest.mark.parametrize("what", WRONG)
def test_the_stand_in_refuses_descriptors(what: str) -> None:
    make, message = WRONG[what]
    standin.TROUBLE.clear()
    with pytest.raises(RuntimeError, match="CUBLAS_STATUS_INVALID_VALUE"):
        make()
    assert any(message in trouble for trouble in standin.TROUBLE), standin.TROUBLE


@over_the_stand_in
def test_sizes_that_do_not_fit_have_no_algorithm() -> None:
    a, b, _ = _square()
    with pytest.raises(RuntimeError, match="AlgoGetHeuristic gave CUBLAS_STATUS_INVALID_VALUE"):
        cublaslt.Products("float32")(cupy.zeros((4, 3), "float32"), a, b)
    with pytest.raises(cublaslt.UnsupportedError, match="NOT_SUPPORTED"):
        cublaslt.Products("float32")(cupy.zeros((4, 4), "uint16"), a, b)
    with pytest.raises(RuntimeError, match="INVALID_VALUE"):
        cublaslt.Products("float32")(a, a, b)()
    assert "D overlaps a factor" in standin.TROUBLE


@over_the_stand_in
def test_nothing_is_looked_up_while_a_stream_captures() -> None:
    matrices, stream = _square(), cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            with pytest.raises(RuntimeError, match="AlgoGetHeuristic"):
                cublaslt.Products("float32")(*matrices)
        finally:
            stream.end_capture()


@pytest.mark.parametrize(
    ("status", "kind"), [(3, MemoryError), (15, cublaslt.UnsupportedError), (7, RuntimeError)]
)
def test_a_status_becomes_an_error(status: int, kind: type[Exception]) -> None:
    cublaslt.check("anything", 0)
    with pytest.raises(kind, match=f"anything gave CUBLAS_STATUS_{cublaslt.STATUSES[status]}"):
        cublaslt.check("anything", status)
    with pytest.raises(RuntimeError, match="CUBLAS_STATUS_99"):
        cublaslt.check("anything", 99)


# The library itself


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """NVIDIA's library, where it is installed; most of it does without a driver."""
    pathfinder = pytest.importorskip("cuda.pathfinder", reason="cuda-pathfinder is not installed")
    try:
        path = pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path
    except pathfinder.DynamicLibNotFoundError:
        pytest.skip("cuBLASLt is not installed")
    monkeypatch.setattr(driver, "library", lambda name: ctypes.CDLL(path))
    cublaslt.library.cache_clear()
    yield cublaslt.library()
    gc.collect()  # descriptors go back to where they came from
    cublaslt.library.cache_clear()


def test_the_library_has_every_function(real: Any) -> None:
    assert real.cublasLtGetVersion() >= 120000
    for name in cublaslt.SIGNATURES:
        assert getattr(real, name).argtypes == cublaslt.SIGNATURES[name]


ATTRIBUTES = [
    (cublaslt.DESC_TRANSA, ctypes.c_int32(1)),
    (cublaslt.DESC_TRANSB, ctypes.c_int32(1)),
    (cublaslt.DESC_EPILOGUE, ctypes.c_uint32(cublaslt.EPILOGUE_BIAS)),
    (cublaslt.DESC_BIAS_POINTER, ctypes.c_uint64(0x123400)),
]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_library_takes_our_operations(precision: str, real: Any) -> None:
    kind = cublaslt.ARITHMETIC[precision]
    operation = cublaslt._made("MatmulDesc", kind.compute, kind.scale)
    for attribute, value in ATTRIBUTES:
        cublaslt._set("MatmulDesc", operation, attribute, value)
        assert _read(real, "MatmulDesc", operation, attribute, value) == value.value
    compute, scale = (
        _read(real, "MatmulDesc", operation, attribute, ctypes.c_int32()) for attribute in (0, 1)
    )
    assert (compute, scale) == (kind.compute, kind.scale)


def _read(real: Any, kind: str, owner: Any, attribute: int, like: Any) -> Any:
    """Read an attribute; the library must have written as many bytes as ours has."""
    found, written = type(like)(), ctypes.c_size_t()
    function = getattr(real, f"cublasLt{kind}GetAttribute")
    function.argtypes = (*cublaslt.SIGNATURES["cublasLtMatmulDescSetAttribute"], ctypes.c_void_p)
    status = function(
        owner, attribute, ctypes.byref(found), ctypes.sizeof(found), ctypes.byref(written)
    )
    assert (status, written.value) == (0, ctypes.sizeof(found))
    return found.value


def test_the_library_takes_our_layouts_and_preferences(real: Any) -> None:
    layout = cublaslt._made("MatrixLayout", cublaslt.R_16BF, 5, 7, 9)
    for attribute, value in ((2, 5), (3, 7), (4, 9)):  # rows, columns, leading dimension
        assert _read(real, "MatrixLayout", layout, attribute, ctypes.c_int64()) == value
    preference = cublaslt._made("MatmulPreference")
    size = ctypes.c_uint64(cublaslt.WORKSPACE)
    cublaslt._set("MatmulPreference", preference, cublaslt.PREF_WORKSPACE, size)
    found = _read(real, "MatmulPreference", preference, cublaslt.PREF_WORKSPACE, size)
    assert found == cublaslt.WORKSPACE
    for attribute in cublaslt.PREF_ALIGNMENTS:
        cublaslt._set("MatmulPreference", preference, attribute, ctypes.c_uint32(16))
        like = ctypes.c_uint32()
        assert _read(real, "MatmulPreference", preference, attribute, like) == 16


def test_without_a_driver_the_library_says_so(real: Any) -> None:
    if ON_DEVICE or driver.missing.__module__ != "fastmlp.kernels.driver":
        from .conftest import REAL_MISSING

        if REAL_MISSING() is None:
            pytest.skip("there is a driver")
    with pytest.raises(RuntimeError, match="cublasLtCreate gave CUBLAS_STATUS_NOT_INITIALIZED"):
        cublaslt.call("cublasLtCreate", ctypes.byref(ctypes.c_void_p()))
