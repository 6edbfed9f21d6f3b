"""Run the matrix: `python -m bench.faults`; exit status 1 when a cell is red."""

import argparse
import sys
import time
from pathlib import Path

from bench.faults import matrix, report
from bench.faults.states import STATES
from bench.truth.real.people import missing


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--only", default="", metavar="FAULT,...", help=f"of: {', '.join(matrix.FAULTS)}")
    parser.add_argument("--state", default="", metavar="STATE,...", help=f"of: {', '.join(STATES)}")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time (default: %(default)s)")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="put the cells into FILE, and print all that it has then"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print the section for docs/reliability.md")
    return parser.parse_args()


def main() -> int:
    """Run what was asked for."""
    asked = _arguments()
    if why := missing() or matrix.missing():
        print(f"skipped: {why}", file=sys.stderr)
        return 0
    try:
        faults = matrix.chosen(asked.only, matrix.FAULTS)
        states = matrix.chosen(asked.state, STATES)
    except KeyError as unknown:
        sys.exit(f"Error: there is no {unknown}")
    began = time.monotonic()
    seen = []
    for one in matrix.run(faults, states, asked.jobs):
        seen.append(one)
        print(report.line(one), file=sys.stderr, flush=True)
        if asked.keep:
            report.keep(asked.keep, [one])
    form = report.as_json if asked.json else report.as_markdown if asked.markdown else report.table
    if asked.keep:
        seen = report.keep(asked.keep, [])
    print(form(seen, time.monotonic() - began), flush=True)
    return 0 if all(one.green for one in seen) else 1


if __name__ == "__main__":
    sys.exit(main())
