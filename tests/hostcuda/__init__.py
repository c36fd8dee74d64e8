"""A machine without a GPU runs the GPU backend: its real host code, its real device code.

`standin` is a module in the place of cupy, over NumPy arrays; `build` compiles the CUDA source with
the host's compiler, and ``shim.hpp`` runs its threads. What this shows is arithmetic, indexing,
bounds, barriers, launch geometry and the types of arguments; not speed, weak memory order, tensor
cores, cuBLAS or the driver.
"""
