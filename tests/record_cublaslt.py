"""Writes data/cublaslt.json: what the headers of cuBLASLt say of the numbers that the backend uses.

    python tests/record_cublaslt.py FOLDER [FOLDER ...]

Each argument stands for one release of CUDA: its folders with the headers, joined by colons. All
releases must say the same. A C program reads them, built by the host's compiler.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "data" / "cublaslt.json"

ENUMERATORS = (
    "CUDA_R_32F",
    "CUDA_R_64F",
    "CUDA_R_16BF",
    "CUBLAS_COMPUTE_32F",
    "CUBLAS_COMPUTE_64F",
    "CUBLAS_COMPUTE_32F_FAST_TF32",
    "CUBLAS_OP_N",
    "CUBLAS_OP_T",
    "CUBLASLT_MATMUL_DESC_TRANSA",
    "CUBLASLT_MATMUL_DESC_TRANSB",
    "CUBLASLT_MATMUL_DESC_EPILOGUE",
    "CUBLASLT_MATMUL_DESC_BIAS_POINTER",
    "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES",
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES",
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES",
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES",
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES",
    "CUBLASLT_EPILOGUE_DEFAULT",
    "CUBLASLT_EPILOGUE_BIAS",
    "CUBLAS_STATUS_SUCCESS",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_INVALID_VALUE",
    "CUBLAS_STATUS_ARCH_MISMATCH",
    "CUBLAS_STATUS_MAPPING_ERROR",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUBLAS_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_LICENSE_ERROR",
)

RESULT = "cublasLtMatmulHeuristicResult_t"
SIZES = ("cublasLtMatmulAlgo_t", RESULT, "cublasLtHandle_t", "cublasStatus_t")
OFFSETS = ("algo", "workspaceSize", "state", "wavesCount", "reserved")

# The compiler itself compares the arguments.
SIGNATURES = """
cublasStatus_t (*create)(cublasLtHandle_t *) = cublasLtCreate;
size_t (*version)(void) = cublasLtGetVersion;
cublasStatus_t (*operation)(cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType_t) =
    cublasLtMatmulDescCreate;
cublasStatus_t (*set)(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *, size_t) =
    cublasLtMatmulDescSetAttribute;
cublasStatus_t (*layout)(cublasLtMatrixLayout_t *, cudaDataType, uint64_t, uint64_t, int64_t) =
    cublasLtMatrixLayoutCreate;
cublasStatus_t (*prefer)(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
    const void *, size_t) = cublasLtMatmulPreferenceSetAttribute;
cublasStatus_t (*choose)(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
    cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
    cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t *, int *) =
    cublasLtMatmulAlgoGetHeuristic;
cublasStatus_t (*check)(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
    cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
    const cublasLtMatmulAlgo_t *, cublasLtMatmulHeuristicResult_t *) = cublasLtMatmulAlgoCheck;
cublasStatus_t (*multiply)(cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *,
    cublasLtMatrixLayout_t, const void *, cublasLtMatrixLayout_t, const void *, const void *,
    cublasLtMatrixLayout_t, void *, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *, void *,
    size_t, cudaStream_t) = cublasLtMatmul;
"""


def program() -> str:
    """A C++ program that prints all of it as JSON; it is built, and not linked with the library."""
    lines = [f'printf("%s\\"{n}\\": %d", comma, (int){n}); comma = ", ";' for n in ENUMERATORS]
    sizes = [f'printf("%s\\"{n}\\": %zu", comma, sizeof({n})); comma = ", ";' for n in SIZES]
    places = [
        f'printf("%s\\"{n}\\": %zu", comma, offsetof({RESULT}, {n})); comma = ", ";'
        for n in OFFSETS
    ]
    groups = [("enumerators", lines), ("sizes", sizes), ("offsets", places)]
    body = ' printf(", ");'.join(
        f'printf("\\"{name}\\": {{"); comma = ""; {" ".join(group)} printf("}}");'
        for name, group in groups
    )
    return (
        "#include <cublasLt.h>\n#include <cstddef>\n#include <cstdio>\n"
        f"#ifdef SIGNATURES\n{SIGNATURES}\n#else\n"
        f'int main() {{ const char *comma; printf("{{"); {body} printf("}}"); }}\n#endif\n'
    )


def read(folders: str) -> dict[str, Any]:
    """What one release's headers say."""
    includes = [flag for folder in folders.split(":") for flag in ("-I", folder)]
    compiler = shutil.which("g++")
    assert compiler is not None, "g++ is needed"
    with tempfile.TemporaryDirectory() as scratch:
        source, made = Path(scratch) / "read.cpp", Path(scratch) / "read"
        source.write_text(program())
        command = [compiler, "-std=c++17", *includes, str(source)]
        subprocess.run([*command, "-DSIGNATURES", "-fsyntax-only"], check=True)
        subprocess.run([*command, "-o", str(made)], check=True)
        done = subprocess.run([str(made)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    found = [read(folders) for folders in sys.argv[1:]]
    assert found, __doc__
    assert all(other == found[0] for other in found), "the releases differ"
    TARGET.write_text(json.dumps(found[0], indent=1) + "\n")


if __name__ == "__main__":
    main()
