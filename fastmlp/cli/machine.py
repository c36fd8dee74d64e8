"""``fastmlp info``: what this machine has, and what a saved network is."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__, available_backends, get_num_threads
from ..network import MLP

PACKAGES = ("numpy", "numba", "llvmlite", "scikit-learn", "torch", "jax")
MISSING = "not installed"
FEATURES = ("fma", "avx2", "avx512f", "avx512bf16", "neon")


def run(chosen: argparse.Namespace) -> int:
    """Print it; return the exit status."""
    lines = machine() if chosen.model is None else network(chosen.model)
    print("\n".join(lines))
    return 0


def machine() -> list[str]:
    """Versions, backends, threads, processor, cache."""
    python = f"{platform.python_version()} ({sys.implementation.name})"
    found = {
        "fastmlp": __version__,
        "python": f"{python}, {platform.system()} {platform.machine()}",
        "numpy": _version("numpy"),
        "numba": _version("numba"),
        "backends": "",
        **{
            f"  {name}": "ready" if reason is None else f"missing: {reason}"
            for name, reason in available_backends().items()
        },
        "threads": f"{get_num_threads()} (of {os.cpu_count()} logical cores)",
        "cpu": cpu_name(),
        "cpu features": cpu_features(),
        "kernel cache": _cache(),
    }
    return [f"{name:14}{value}".rstrip() for name, value in found.items()]


def network(path: str) -> list[str]:
    """A saved network's layers, state and what the command line stored with it."""
    net = MLP.load(path)
    lines = [f"{path}: {Path(path).stat().st_size:,} bytes", net.summary()]
    lines.append(f"trained for {net.epochs:,} epochs, {net.steps:,} updates")
    for name in ("data", "classes", "columns"):
        value = net.metadata.get(name)
        if value:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"{name}: {shown if len(shown) <= 200 else shown[:197] + '...'}")
    return lines


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    fields = {key.strip(): value.strip() for key, _, value in _pairs(text)}
    if "model name" in fields:
        # Virtual machines may say "AMD EPYC" and no more.
        numbers = ", ".join(
            f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields
        )
        return f"{fields['model name']} ({numbers})" if numbers else fields["model name"]
    return _darwin_name() or platform.processor() or "unknown"


def _pairs(text: str) -> Iterator[tuple[str, str, str]]:
    return (line.partition(":") for line in text.splitlines() if ":" in line)


def record() -> dict[str, Any]:
    """What a measurement belongs to: processor, cores, versions."""
    found = {name: version for name in PACKAGES if (version := _version(name)) != MISSING}
    return {
        "processor": cpu_name(),
        "features": cpu_features(),
        "cores": os.cpu_count(),
        "threads": get_num_threads(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {"fastmlp": __version__, **found},
    }


def _darwin_name() -> str:
    if platform.system() != "Darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def cpu_features() -> str:
    """The vector instructions that matter to the kernels."""
    try:
        from llvmlite import binding
    except ImportError:
        return "unknown (llvmlite is not installed)"
    try:
        found = binding.get_host_cpu_features()
    except RuntimeError as error:
        return f"unknown ({error})"
    return ", ".join(name for name in FEATURES if found.get(name)) or "none known"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return MISSING


def _cache() -> str:
    """Folder of the compiled kernels."""
    if available_backends()["numba"] is not None:
        return "none: nothing is compiled"
    from ..kernels.numba_cpu.jit import cache_folder

    folder = cache_folder()
    return "off: kernels compile in every process" if folder is None else str(folder)
