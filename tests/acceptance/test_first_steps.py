"""What a new user sees first: the list of commands, the demo's end, an empty log, a service that stops."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, use
from support.eventually import slowness

from canhazgpu.cli.command_groups import SECTIONS
from canhazgpu.cli.commands import COMMANDS


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_commands_are_in_sections_with_whole_summaries(folder: Path, columns: int) -> None:
    """Every command is in one of five sections, and no summary is cut."""
    host = Daemon(folder)
    environment = {**host.environment, "COLUMNS": str(columns)}
    done = subprocess.run([*COMMAND, "--help"], env=environment, capture_output=True, text=True, check=True)
    text = done.stdout
    places = [text.index(f"\n{title}:\n") for title in SECTIONS]
    assert places == sorted(places)
    assert sorted(name for section in SECTIONS.values() for name in section) == sorted(COMMANDS)
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in COMMANDS)
    for words in ((), ("admin",), ("violations",), ("silence",), ("log",), ("config",)):
        assert "..." not in host.run(*words, "--help").stdout.partition("[ARGS]...")[2], words


def test_admin_init_does_not_contradict_itself(folder: Path) -> None:
    """Its options say what they do there, and are not options of `admin`; the short form still works."""
    host = Daemon(folder)
    shown = host.run("admin", "init", "--help").stdout
    assert "default: 1" not in shown
    assert "Manage only the first NUMBER GPUs." in shown
    assert "--gpus" not in host.run("admin", "--help").stdout.partition("Commands:")[0]
    assert host.run("admin", "--gpus", "0").returncode == 2


def test_the_demo_ends_with_the_mail_that_closed_it(folder: Path) -> None:
    """The last mail shown is the offender's that says it is resolved."""
    done = subprocess.run(
        [sys.executable, "-m", "canhazgpu.cli.main", "demo"],
        env={**Daemon(folder).environment, "TMPDIR": str(folder), "CANHAZGPU_CONFIG": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    subjects = re.findall(r"\| Subject: (.*)", done.stdout)
    assert len(subjects) == 2
    assert "resolved: you are no longer using GPUs 2 and 4" in subjects[1]


def test_a_log_without_a_line_is_no_error(folder: Path) -> None:
    """Before the first violation there is nothing to verify; a log that is gone is still missed."""
    host = Daemon(folder)
    done = host.run("log", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{folder}/violations.log: there is no line yet.\n"
    (folder / ".violations.log.head").write_text("{}")
    assert host.run("log", "verify").returncode != 0
    assert host.run("log", "verify", str(folder / "violations.log")).returncode != 0


def test_a_test_notice_needs_no_option(host: Daemon) -> None:
    """Without --channel it goes to one's own terminals, and a line for each says what came of it."""
    done = host.run("notify", "test")
    # The terminals that root has here, if any, are those of tests that run beside this one.
    assert re.fullmatch(r"(wall to root(:pts/\d+)?: .+\n)+", done.stdout), done


def test_stopping_does_not_wait_for_those_who_follow(folder: Path) -> None:
    """A service that is stopped while somebody follows its events ends at once."""
    host = Daemon(folder).start()
    reader = subprocess.Popen(
        [*COMMAND, "events", "--follow", "--type", "violation"],
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        host.place(gpu(0, use(999_999, 1024, "bob", "python3")))
        assert reader.stdout
        assert b"bob" in reader.stdout.readline()  # It follows now.
        began = time.monotonic()
        assert host.stop() == 0
        assert time.monotonic() - began < 4.5 * slowness()  # Else it waits for 5.
    finally:
        reader.kill()
        reader.communicate()
