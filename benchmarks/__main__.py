"""`python -m benchmarks`: speed against what the machine could do, and against peers, all in one run.

Shared machines drift: compare the ratios within a run, not the milliseconds of two runs.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import host_path, kernels
from benchmarks.measure import Row, format_rows, write_rows

_MEASURES: dict[str, Callable[[], Iterator[Row]]] = {"kernels": kernels.measure, "pipeline": host_path.measure}
_MODULES = {"engines": "benchmarks.backends", "audio": "benchmarks.speech"}
"""Benchmarks with options of their own; here they run with their defaults."""


def main() -> None:
    """Run the benchmarks that were named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", default="all", choices=[*_MEASURES, *_MODULES, "gpu", "all"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the measurements of kernels and pipeline")
    given = parser.parse_args()
    rows: list[Row] = []
    for name, measure in _MEASURES.items():
        if given.what in (name, "all"):
            found = list(measure())
            print(f"{name}\n{format_rows(found)}\n", flush=True)
            rows += found
    for name, module in _MODULES.items():
        if given.what in (name, "all"):
            subprocess.run([sys.executable, "-m", module], check=True)
    if given.what in ("gpu", "all"):
        # 5 is pytest's code for no test at all.
        code = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu", "-rs"], check=False).returncode
        if code not in (0, 5):
            sys.exit(code)
    if given.json is not None:
        write_rows(given.json, rows)


if __name__ == "__main__":
    main()
