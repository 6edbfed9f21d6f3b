"""What a run found, for people, for programs and for docs/reliability.md."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from bench.truth.bench import Found
from bench.truth.oracle import COLUMNS
from bench.truth.steps import Step


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the bench."""

    seed: int
    length: int
    hazards: tuple[str, ...]
    found: Found
    seconds: float

    @property
    def rate(self) -> int:
        """Steps a second."""
        return round(self.found.steps / max(self.seconds, 0.001))


def table(run: Run) -> str:
    """Return the figures, a line each."""
    rows = [("steps", run.found.steps), *((column, run.found.columns[column]) for column in COLUMNS)]
    lines = [f"{name:<42} {value:>9,}" for name, value in rows]
    return "\n".join([*lines, f"seed {run.seed}, {run.seconds:.0f} s, {run.rate} steps/s"])


def as_json(run: Run) -> str:
    """Return the same for programs."""
    columns = {column: run.found.columns[column] for column in COLUMNS}
    failed = [{"seed": one.seed, "failures": one.failures} for one in run.found.failed]
    facts = {
        "steps": run.found.steps,
        "columns": columns,
        "seed": run.seed,
        "length": run.length,
        "hazards": run.hazards,
        "seconds": round(run.seconds, 1),
        "failed": failed,
    }
    return msgspec.json.format(msgspec.json.encode(facts)).decode()


def as_markdown(run: Run) -> str:
    """Return the section of docs/reliability.md."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    today = datetime.now(UTC).date()
    hazards = ", ".join(run.hazards) or "no hazards"
    what = f"episodes of {run.length} steps with {hazards}" if run.length else "real processes"
    said = f"{today}, commit {commit}, seed {run.seed}, {what};"
    lines = [
        f"{said} {run.seconds / 60:.0f} minutes, {run.rate} steps a second.",
        "",
        "| what | how often |",
        "|---|---|",
        f"| steps | {run.found.steps:,} |",
        *(f"| {column} | {run.found.columns[column]:,} |" for column in COLUMNS),
    ]
    return "\n".join(lines)


def story(steps: Sequence[Step]) -> str:
    """Return steps as a file that can be replayed: one a line."""
    lines = ",\n".join(f" {msgspec.json.encode(step).decode()}" for step in steps)
    return f"[\n{lines}\n]"
