"""Importing numtape after NumPy, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

COUNT = "import sys, numpy; before = len(sys.modules); import numtape; print(len(sys.modules) - before)"


def timeraw_import():
    return "import numtape", "import numpy"


def track_modules():
    """How many modules are loaded: the part of the time that is numtape's own choice."""
    return int(subprocess.check_output([sys.executable, "-c", COUNT]))


track_modules.unit = "modules"
