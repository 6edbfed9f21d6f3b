"""The demonstration works, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from support.daemon import PATIENCE, until
from support.eventually import slowness

LONGEST = 30.0  # Seconds, where nothing else runs.


def _demo(folder: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CANHAZGPU_")}
    return subprocess.run(
        [sys.executable, "-m", "canhazgpu.cli.main", "demo", *args],
        env={**environment, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def _of(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        if any(str(folder) in word for word in words):
            found.append(f"{process.pid} {process.info['cmdline']}")
    return found


def test_the_demonstration_shows_the_main_job_and_cleans_up() -> None:
    """It exits with 0, shows terminal, mail, log and stream, and removes everything."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        result = _demo(Path(folder))
        took = time.monotonic() - began
        assert result.returncode == 0, result.stderr
        assert took < LONGEST * slowness()
        for expected in (
            "GPU 2: AVAILABLE",
            "GPU 2: IN USE WITHOUT RESERVATION by user",
            "GPU 7: ERROR (GPU is lost",
            "Message-ID:",
            "canhazgpu.violation.opened",
            "Subject:",
        ):
            assert expected in result.stdout, expected
        assert list(Path(folder).iterdir()) == []
        assert _of(Path(folder)) == []


def test_kept_running_it_says_how_to_talk_to_it_and_how_to_end_it() -> None:
    """`demo --keep` leaves a working service, and the printed command ends it and leaves nothing."""
    with tempfile.TemporaryDirectory() as folder:
        result = _demo(Path(folder), "--keep")
        assert result.returncode == 0, result.stderr
        config = re.search(r"export CANHAZGPU_CONFIG=(\S+)", result.stdout)
        end = re.search(r"(kill [\d ]+; .*rm -r .*)", result.stdout)
        assert config
        assert end
        try:
            status = subprocess.run(
                [sys.executable, "-m", "canhazgpu.cli.main", "status"],
                env={**os.environ, "CANHAZGPU_CONFIG": config[1]},
                capture_output=True,
                text=True,
                check=False,
            )
            assert "GPU 7: ERROR (GPU is lost" in status.stdout
        finally:
            _end(end[1])
        until(lambda: not _of(Path(folder)), what="for the processes of the demonstration to end")
        assert list(Path(folder).iterdir()) == []


def _end(command: str) -> None:
    """Type the printed command; while the service has not ended, neither has the command."""
    service = int(command.partition(";")[0].split()[-1])
    os.kill(service, signal.SIGSTOP)
    try:
        typed = subprocess.Popen(["sh", "-c", command])
        with pytest.raises(subprocess.TimeoutExpired):
            typed.wait(1)
    finally:
        os.kill(service, signal.SIGCONT)
    assert typed.wait(PATIENCE) == 0


@pytest.mark.parametrize("words", [["--nonsense"], ["extra"]])
def test_bad_words_are_refused_in_one_line(words: list[str], tmp_path: Path) -> None:
    """An unknown option or argument is a usage error on one line."""
    result = _demo(tmp_path, *words)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
