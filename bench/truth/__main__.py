"""Run the bench: `python -m bench.truth --steps 20000`; exit status 1 when the product was wrong once."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from bench.truth import jobs
from bench.truth.bench import Bench, Failed, Found
from bench.truth.real import rounds
from bench.truth.real.people import missing
from bench.truth.report import Run, as_json, as_markdown, story, table
from bench.truth.shrink import shrink
from bench.truth.steps import HAZARDS, Step, make_up

SHOWN = 3  # Failures that are shrunk and printed.
SAY_EVERY = 10.0  # Seconds.


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.truth", description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=20000, help="how many steps in all (default: %(default)s)"
    )
    parser.add_argument("--length", type=int, default=1000, help="steps of an episode (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first episode; the next has the next"
    )
    parser.add_argument(
        "--without", default="", metavar="HAZARD,...", help=f"leave out some of: {', '.join(HAZARDS)}"
    )
    parser.add_argument(
        "--replay", metavar="SEED|FILE", help="run one episode: of a seed, or the steps of a file"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: %(default)s)")
    parser.add_argument(
        "--real", type=float, metavar="SECONDS", help="run for so long with real processes, users and daemon"
    )
    parser.add_argument("--shrink-seconds", type=float, default=60.0, help="for each failure that is shown")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print the section for docs/reliability.md")
    return parser.parse_args()


def main() -> int:
    """Run what was asked for."""
    asked = _arguments()
    without = [name for name in asked.without.split(",") if name]
    if unknown := set(without) - set(HAZARDS):
        sys.exit(f"Error: no hazard {', '.join(sorted(unknown))}; there are {', '.join(HAZARDS)}")
    hazards = tuple(name for name in HAZARDS if name not in without)
    began = time.monotonic()
    form = as_json if asked.json else as_markdown if asked.markdown else table
    if asked.real:
        return _real(asked.seed, asked.real, form, began)
    with Bench() as bench:
        if asked.replay:
            found = _replay(bench, asked.replay, asked.length, hazards)
        else:
            progress = partial(_say, [began])
            run = partial(jobs.run, jobs=asked.jobs) if asked.jobs > 1 else bench.run
            found = run(asked.seed, asked.steps, asked.length, hazards, progress)
        result = Run(
            seed=asked.seed,
            length=asked.length,
            hazards=hazards,
            found=found,
            seconds=time.monotonic() - began,
        )
        print(form(result), flush=True)
        for failed in found.failed[:SHOWN]:
            _explain(bench, failed, asked.shrink_seconds)
    return 1 if found.failed else 0


def _real(seed: int, seconds: float, form: Callable[[Run], str], began: float) -> int:
    if why := missing():
        print(f"skipped, with real processes: {why}", flush=True)
        return 0
    try:
        found, stories, remarks = rounds.run(seed, seconds)
    except RuntimeError as error:  # The daemon does not come back, or leaves a card alone that is well.
        print(f"Error: seed {seed}: {error}", file=sys.stderr, flush=True)
        return 1
    result = Run(seed=seed, length=0, hazards=(), found=found, seconds=time.monotonic() - began)
    print(form(result), flush=True)
    print("\n".join(remarks), file=sys.stderr, flush=True)
    print("\n\n".join(stories[:SHOWN]), file=sys.stderr, flush=True)
    return 1 if stories else 0


def _replay(bench: Bench, what: str, length: int, hazards: Sequence[str]) -> Found:
    if what.isdigit():
        steps, seed = make_up(int(what), length, hazards), int(what)
    else:
        steps, seed = msgspec.json.decode(Path(what).read_bytes(), type=list[Step]), 0
    found = Found(steps=len(steps))
    failures = bench.episode(steps)
    found.columns.update(column for column, _ in failures)
    if failures:
        found.failed.append(Failed(seed, failures, steps))
    return found


def _explain(bench: Bench, failed: Failed, seconds: float) -> None:
    """Print a failure, and the fewest steps that lead to one of its column."""
    column, text = failed.failures[0]
    print(f"\n{column}, seed {failed.seed}, {text}", file=sys.stderr)

    def fails(steps: Sequence[Step]) -> bool:
        return any(found == column for found, _ in bench.episode(steps))

    small = shrink(failed.steps, fails, seconds)
    found = [said for name, said in bench.episode(small) if name == column]
    if not found:
        print(f"not seen a second time: --replay {failed.seed} runs the episode again", file=sys.stderr)
        return
    print(f"shrunk to {len(small)} steps: {found[0]}\n{story(small)}", file=sys.stderr, flush=True)


def _say(last: list[float], found: Found) -> None:
    """Say how far it is, now and then."""
    if time.monotonic() - last[0] > SAY_EVERY:
        last[0] = time.monotonic()
        print(f"{found.steps:,} steps, {sum(found.columns.values())} failures", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
