"""Settings of the documentation: ``sphinx-build -W docs docs/_build/html``."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "benchmarks")]

_project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
project = _project["name"]
author = copyright = "fastmlp developers"
version = release = _project["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "numpydoc",
    "fastmlp_results",
    "fastmlp_tables",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "autolink"

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# Every example starts in an empty folder of its own.
doctest_global_setup = """
import os, tempfile
import numpy as np
_folder, _before = tempfile.TemporaryDirectory(), os.getcwd()
os.chdir(_folder.name)
"""
doctest_global_cleanup = """
os.chdir(_before)
_folder.cleanup()
"""

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {version}"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
