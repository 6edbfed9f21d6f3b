"""What the tab key offers, asked as the scripts for the shells ask."""

import subprocess

from support.daemon import COMMAND, PATIENCE, Daemon


def says(host: Daemon, asked: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Ask for completion as a script does."""
    environment = {**host.environment, "_CANHAZGPU_COMPLETE": asked, **variables}
    return subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def offered(host: Daemon, line: str) -> list[str]:
    """Return the words that are offered at the end of a line."""
    done = says(host, "complete_fish", _TYPER_COMPLETE_FISH_ACTION="get-args", _TYPER_COMPLETE_ARGS=line)
    assert (done.returncode, done.stderr) == (0, "")
    return [row.partition("\t")[0] for row in done.stdout.splitlines() if row]
