"""How Sphinx builds the site; `make docs` runs it."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["MPLBACKEND"] = "Agg"

project = "numtape"
copyright = "the authors of numtape"
release = version = version_of("numtape")

extensions = ["myst_parser", "extension"]
exclude_patterns = ["_build"]
nitpicky = True
default_role = "literal"  # what stands in backticks in docstrings
toc_object_entries_show_parents = "hide"
myst_heading_anchors = 3
pygments_style = "default"

html_theme = "furo"
html_title = "numtape"
html_copy_source = False
html_show_sphinx = False
