"""Scripts in processes of their own, which a test can't hang or take down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(
    code: str,
    *arguments: str,
    cwd: Path | None = None,
    timeout: float = 300,
    **environment: str,
) -> str:
    """Run a script in a process of its own; return what it prints. A hang shows where it was."""
    dump = f"import faulthandler; faulthandler.dump_traceback_later({timeout - 10}, exit=True)"
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", f"{dump}\n{code}", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
