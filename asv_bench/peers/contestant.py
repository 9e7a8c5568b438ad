"""A contestant as its opponents see it: a worker process that sets up one way and runs steps when told to.

`Contestant` is started in an environment whose caches lie in a given folder, waits for each answer no longer than a
limit, and raises `Failed` with the reason when the worker has an error, dies or is silent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Failed(Exception):
    pass


def environment(caches: Path) -> dict[str, str]:
    """The variables of a worker: every library keeps what it compiles below `caches`, and default threads."""
    caches.mkdir(exist_ok=True)
    return os.environ | {
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(caches)),
        "NUMTAPE_CACHE_DIR": str(caches / "numtape"),
        "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torch"),
        "PYTENSOR_FLAGS": f"base_compiledir={caches / 'pytensor'}",
        "NUMBA_CACHE_DIR": str(caches / "numba"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }


class Contestant:
    def __init__(self, workload: str, way: str, caches: Path, limit: float):
        self.way = way
        self._limit = limit  # seconds for one answer
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  `close` closes it
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), workload, way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
            env=environment(caches),
        )

    def ready(self) -> dict[str, Any]:
        """Wait until the way is set up, and return what the worker says of that."""
        return self._answer()

    def run(self, steps: int) -> dict[str, Any]:
        """Run steps; returns their `seconds`, `imports` and `result`."""
        try:
            self._process.stdin.write(f"{steps}\n")
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        return self._answer()

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        start = time.monotonic()
        alarm = threading.Timer(self._limit, self._process.kill)
        alarm.start()
        line = self._process.stdout.readline()
        alarm.cancel()
        if not line:
            silent = time.monotonic() - start >= self._limit
            raise Failed(f"no answer in {self._limit} s" if silent else self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"].splitlines()[0])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        return (self._log.read().strip().splitlines() or [f"exit status {code}"])[-1]
