"""The environment of the comparison: a virtual environment of its own beside this file.

Each library is installed by a pip of its own, so that one that fails is reported and the others still compete.
What is installed is noted in the environment; a second call installs only what is missing there.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from libraries import LIBRARIES

HOME = Path(__file__).resolve().parent / ".venv"


def prepare() -> str:
    """Create and fill the environment where needed, and return the path of its Python."""
    python = HOME / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"Creating {HOME}", file=sys.stderr)
        venv.create(HOME, with_pip=True)
    note = HOME / "installed.txt"
    installed = note.read_text().splitlines() if note.exists() else []
    for name, library in LIBRARIES.items():
        line = " ".join(library.requirement)
        if line in installed:
            continue
        print(f"Installing {name}", file=sys.stderr)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        if subprocess.call([*pip, *library.requirement], stdout=sys.stderr) == 0:
            installed.append(line)
            note.write_text("\n".join(installed) + "\n")
        else:
            print(f"{name} could not be installed; the others go on without it", file=sys.stderr)
    return str(python)
