"""`make bench`: run every bench_*.py of this folder, each in its own process, and print what it measured.

python -m tests.bench [NAME ...]      only the benchmarks named
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Run the benchmarks named, or all; returns the number that failed."""
    folder = Path(__file__).parent
    found = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    unknown = set(names) - set(found)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}; ratios are of one run here"
    )
    failed = 0
    for name in names or found:
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"tests.bench.bench_{name}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
