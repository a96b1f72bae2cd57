"""How long a report of many runs takes: as a multiple of the time to import Matplotlib, and by part."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fclip.stages import report
from tests.report.runs import MODALITIES, write_run


def seconds(*command: str) -> float:
    """Processor seconds of a Python process of its own."""
    code = f"import time; {'; '.join(command)}; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Write runs of five folds as large as DFEW's and report them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--clips", type=int, default=2341, help="test clips of a fold (DFEW's)")
    parser.add_argument("--steps", type=int, default=17550, help="steps in a training log (30 epochs of DFEW)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for index in range(args.runs):
            variant, seed = list(MODALITIES)[index // 5 % 4], index // 20
            write_run(root, variant, str(index % 5 + 1), seed, clips=args.clips, steps=args.steps)
        matplotlib = seconds("import matplotlib.figure, matplotlib.backends.backend_svg")
        print(f"{args.runs} runs of {args.clips} clips, {args.steps} steps; Matplotlib's import: {matplotlib:.1f} s")
        for ending in ("html", "md", "tex"):
            start, wall = time.process_time(), time.monotonic()
            out = root / f"report.{ending}"
            report.run(report.Config(root=root, out=out))
            used, passed = time.process_time() - start, time.monotonic() - wall
            ratio, size = used / matplotlib, out.stat().st_size / 1e3
            print(f"  {ending:5s} {used:5.1f} s of processor ({passed:.1f} s), x {ratio:.1f} the import, {size:.0f} kB")


if __name__ == "__main__":
    main()
