"""What asv runs; README.md beside this folder tells how. Kernels go into a cache beside the results, not the user's."""

import os
from pathlib import Path

os.environ.setdefault("NUMTAPE_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".asv" / "kernels"))
