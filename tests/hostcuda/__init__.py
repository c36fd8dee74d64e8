"""A machine without a GPU runs the GPU backend: its real host code, its real device code.

`standin` is a module in the place of cupy, over NumPy arrays; `build` compiles the CUDA source with
the host's compiler, and ``shim.hpp`` runs its threads. `machine` has memory, streams and graphs,
`cublas` and `cublaslt` have products. What this shows is arithmetic, indexing, bounds, barriers,
launch geometry, the types of arguments, and that a captured step does nothing that is known to be
refused; not speed, weak memory order, tensor cores, what cuBLAS really does, or the driver.
"""
