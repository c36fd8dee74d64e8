"""``fastmlp info``: what this machine has, and what a saved network is."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .. import __version__, available_backends, get_num_threads
from ..network import MLP

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
    names = [line.partition(":")[2] for line in text.splitlines() if line.startswith("model name")]
    if names:
        return names[0].strip()
    return _darwin_name() or platform.processor() or "unknown"


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
        return "not installed"


def _cache() -> str:
    """Folder of the compiled kernels."""
    if available_backends()["numba"] is not None:
        return "none: nothing is compiled"
    from ..kernels.numba_cpu.jit import cache_folder

    folder = cache_folder()
    return "off: kernels compile in every process" if folder is None else str(folder)
