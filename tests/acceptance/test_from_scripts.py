"""docs/from-scripts.md: the five scripts and their replacements work as described."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from threading import Thread

import pytest
from support import scripts
from support.audit_log import whole_lines
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until, use
from support.people import Person, Terminal

from canhazgpu.cli.demo.mail_sink import MailSink

DOCUMENT = (Path(__file__).parents[2] / "docs" / "from-scripts.md").read_text()
BOB = (
    "GPU 2: IN USE WITHOUT RESERVATION by user bob - 1024MB used by PID 12345 (python3), PID 67890 (jupyter)"
)
IMPORTS = "import json, logging, re, subprocess\nlogger = logging.getLogger()\n"
STUB = """#!/bin/sh
{{ echo "{name} $*"; cat; echo; }} >> {folder}/called
"""
QUICK = {"CANHAZGPU_NOTICES_GROUP_WAIT": "200ms", "CANHAZGPU_NOTICES_RESOLVE_HOLD": "200ms"}


def blocks(section: int, language: str) -> list[str]:
    """Return the code blocks of one language in one section of the document."""
    text = re.split(r"^## \d\. ", DOCUMENT, flags=re.MULTILINE)[section]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


class Quick(Daemon):
    """A host with the settings of the document and short times."""

    def __init__(self, folder: Path, settings: str) -> None:
        """Use these settings, with the paths of the test."""
        super().__init__(folder)
        config = folder / "config.toml"
        base = config.read_text().partition("[notices]")[0]
        if "[notify.log]" not in settings:
            settings += f'[notify.log]\npath = "{folder}/violations.log"\n'
        config.write_text(base + settings)

    @property
    def environment(self) -> dict[str, str]:
        """Return the paths and the short times."""
        return {**super().environment, **QUICK}


@pytest.fixture
def programs(folder: Path) -> Path:
    """A folder with our `canhazgpu`, and a `wall` and a `mail` that record their calls."""
    path = folder / "bin"
    path.mkdir()
    (path / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    for name in ("wall", "mail"):
        (path / name).write_text(STUB.format(name=name, folder=folder))
    for program in path.iterdir():
        program.chmod(0o755)
    return path


@pytest.fixture
def busy(host: Daemon, programs: Path) -> Daemon:
    """The host of the document: bob's two processes on GPU 2."""
    assert programs.exists()
    host.place(
        gpu(0, memory_used_mb=45),
        gpu(1, memory_used_mb=45),
        gpu(2, use(12345, 500, "bob", "python3"), use(67890, 524, "bob", "jupyter")),
    )
    until(lambda: "WITHOUT" in host.status())
    until(lambda: json.loads(host.run("violations", "--json").stdout))
    return host


@pytest.fixture
def mails(folder: Path) -> Iterator[MailSink]:
    """A mail server."""
    (folder / "mail").mkdir()
    with MailSink(folder / "mail") as sink:
        Thread(target=sink.serve_forever, daemon=True).start()
        yield sink
        sink.shutdown()


def with_path(daemon: Daemon) -> dict[str, str]:
    """Return an environment in which the programs are found."""
    return {**daemon.environment, "PATH": f"{daemon.folder}/bin:{os.environ['PATH']}"}


def bash(daemon: Daemon, script: str) -> str:
    """Run a script; return its output."""
    done = subprocess.run(
        ["bash", "-c", script],
        env=with_path(daemon),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    return done.stdout


def first_line(daemon: Daemon, words: str) -> bytes:
    """Return the first line of a command that goes on."""
    command = ["bash", "-c", f"exec {words}"]
    with subprocess.Popen(command, env=with_path(daemon), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        running.kill()
    return line


def python(daemon: Daemon, program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program with the imports and the logger that it expects."""
    return subprocess.run(
        [sys.executable, "-c", IMPORTS + program],
        env=with_path(daemon),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )


def called(daemon: Daemon) -> list[str]:
    """Return the calls of `wall` and `mail`, with their input."""
    return [line for line in (daemon.folder / "called").read_text().splitlines() if line]


def is_reached(daemon: Daemon, *words: str) -> bool:
    """Tell whether the user of the only violation was reached."""
    (row,) = json.loads(daemon.run("violations", "--json", *words).stdout)
    return bool(row["told"] == "reached")


def test_the_document_shows_the_scripts_as_they_are() -> None:
    """The document has each of the five scripts, unchanged, in its section."""
    assert blocks(1, "bash") == [scripts.REMINDER]
    assert blocks(2, "bash") == [scripts.NOTIFICATION]
    assert blocks(3, "bash") == [scripts.RESPONSE]
    assert blocks(4, "python")[0] == scripts.MONITORING
    assert blocks(5, "text") == [scripts.MIXED]


def test_the_reminder(busy: Daemon) -> None:
    """The script prints the lines without a reservation, or nothing."""
    assert bash(busy, scripts.REMINDER).splitlines() == [
        "Reminder: Please use canhazgpu for GPU reservations",
        BOB,
    ]
    busy.place(gpu(0), gpu(1), gpu(2))
    until(lambda: "WITHOUT" not in busy.status())
    assert bash(busy, scripts.REMINDER) == ""


def test_the_notification(busy: Daemon) -> None:
    """The script finds the user, and gives wall(1) its message."""
    assert bash(busy, scripts.NOTIFICATION) == ""
    assert called(busy) == ["wall -n bob", "Please use canhazgpu for GPU reservations"]


def test_the_response(busy: Daemon) -> None:
    """The script logs a line and mails the user and the administrators."""
    log = busy.folder / "gpu_violations.log"
    assert bash(busy, scripts.RESPONSE.replace("/var/log/gpu_violations.log", str(log))) == ""
    assert log.read_text().endswith(f": {BOB}\n")
    assert called(busy) == [
        "mail -s GPU Usage Policy bob@company.com",
        "GPU Policy Violation: Please use 'canhazgpu reserve' for GPU access",
        "mail -s GPU Policy Violations Detected admin@company.com",
        BOB,
    ]


def test_the_monitoring(busy: Daemon) -> None:
    """The function and its replacement log the use of each user."""
    theirs, ours = blocks(4, "python")
    said = "Unauthorized GPU usage: bob using 1024MB\n"
    assert (python(busy, theirs).stderr, python(busy, ours).stderr) == (said, said)
    found = json.loads(python(busy, f"{theirs}\nprint(json.dumps(violations))").stdout)
    assert found == [{"users": "bob", "memory_mb": 1024, "raw_line": BOB}]


def test_the_mixed_status(host: Daemon, programs: Path, people: list[Person]) -> None:
    """`status` shows a run, a violation, a free GPU and a manual reservation as in the document."""
    assert programs.exists()
    bob, charlie = people
    host.place(*(gpu(index, memory_used_mb=45) for index in range(4)))
    until(lambda: host.status().count("AVAILABLE") == 4)
    words = [*COMMAND, "run", "--gpu-ids", "0", "--", "sleep", "600"]
    with subprocess.Popen(bob.command(*words), env=host.environment, cwd="/") as job:
        done = host.run("reserve", "--gpu-ids", "3", person=charlie, cwd="/")
        assert done.returncode == 0, done.stderr
        until(lambda: "run, last heartbeat" in host.status())
        host.place(
            gpu(0, use(job.pid, 8452)),
            gpu(1, use(22222, 1024, "alice", "jupyter")),
            gpu(2, memory_used_mb=45),
            gpu(3),
        )
        with host.redis() as redis:
            seconds, _ = redis.time()
            redis.hset("canhazgpu:{testhost}:gpu:2", "last_released", (seconds - 7200) * 1000)
        shown = until(lambda: "jupyter" in (text := host.status()) and "8452MB" in text and text)
        for person, name in ((bob, "bob"), (charlie, "charlie")):
            shown = shown.replace(person.name, name)
        assert _timeless(shown) == _timeless(scripts.MIXED)
        (ours,) = blocks(5, "python")
        rows = [line.split() for line in python(host, ours).stdout.splitlines()]
        assert [row[:2] for row in rows] == [
            ["0", "IN_USE"],
            ["1", "UNRESERVED"],
            ["2", "AVAILABLE"],
            ["3", "IN_USE"],
        ]
        assert rows[1][2:] == ["alice", "1024"]
        job.kill()


def _timeless(text: str) -> list[str]:
    return re.sub(r"\d+h \d+m \d+s", "TIME", text).splitlines()


def test_each_command_of_the_document_works(busy: Daemon) -> None:
    """The commands in the document work as they are, except for the id of a violation."""
    sections = [blocks(section, "console") for section in (1, 2, 3, 4, 5)]
    assert all(sections)
    lines = [line for section in sections for block in section for line in block.splitlines()]
    (row,) = json.loads(busy.run("violations", "--json").stdout)
    for line in lines:
        assert line.startswith("$ canhazgpu "), line
        words = line.replace("v1764061802123-17", row["violation"]).removeprefix("$ ")
        shown = first_line(busy, f"{words} --after 0-0") if "--follow" in words else bash(busy, words)
        assert shown or "--unreached" in words, line


def test_instead_of_a_reminder(folder: Path, people: list[Person]) -> None:
    """With the settings in the document, the user's terminal shows what to do and whom to ask."""
    daemon = Quick(folder, "".join(blocks(1, "toml"))).start()
    terminal = Terminal(people[0])
    try:
        daemon.place(gpu(0, use(terminal.leader.pid, 1024)))
        until(lambda: "gpu-help@example.com" in terminal.text)
        assert "GPU 0" in terminal.text
        assert people[0].name in daemon.run("violations", "--open").stdout
    finally:
        terminal.close()
        assert daemon.stop() == 0


def test_instead_of_a_notification(folder: Path, people: list[Person]) -> None:
    """Only the user's terminal gets the notice, and the list shows that it reached them."""
    daemon = Quick(folder, "".join(blocks(2, "toml"))).start()
    terminal, other = Terminal(people[0]), Terminal(people[1])
    try:
        daemon.place(gpu(0, use(terminal.leader.pid, 1024)))
        until(lambda: "GPU 0" in terminal.text)
        until(lambda: is_reached(daemon))
        assert other.text == ""
        assert f"{people[0].name}:pts/" in daemon.run("deliveries", "--since", "1d").stdout
    finally:
        terminal.close()
        other.close()
        assert daemon.stop() == 0


def test_instead_of_a_response(folder: Path, mails: MailSink) -> None:
    """There is a log line, and one mail each to user and administrators, again at the end."""
    settings = "".join(blocks(3, "toml"))
    log = folder / "gpu_violations.log"
    settings = settings.replace("/var/log/gpu_violations.log", str(log))
    daemon = Quick(folder, settings.replace("port = 25", f"port = {mails.server_address[1]}")).start()

    def told() -> list[str]:
        found = [message_from_bytes(one.read_bytes(), policy=default) for one in mails.folder.glob("*.eml")]
        return sorted(str(mail["To"]) for mail in found)

    try:
        daemon.place(gpu(2, use(12345, 500, "bob", "python3"), use(67890, 524, "bob", "jupyter")))
        until(lambda: len(told()) == 2)
        assert told() == ["admin@company.com", "bob@company.com"]
        (line,) = until(lambda: [one for one in whole_lines(log) if b"canhazgpu.violation.opened" in one])
        assert json.loads(line)["user"] == "bob"
        until(lambda: is_reached(daemon, "--user", "bob"))
        daemon.place(gpu(2))
        until(lambda: len(told()) == 4)
        assert told() == ["admin@company.com"] * 2 + ["bob@company.com"] * 2
    finally:
        assert daemon.stop() == 0
