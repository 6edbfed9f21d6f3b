"""`canhazgpu log verify`: its output, its exit codes, and attempts to fool it."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.audit_log import line, lines, three_files, writer
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.hostile import harm

from canhazgpu.notifiers.audit_log.chain_head import chain_head_path
from canhazgpu.notifiers.audit_log.writer import AuditLog

AS_NOBODY = """\
import os, sys
from canhazgpu.cli.commands import run
first = run(["log", "verify", sys.argv[1]])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(run(["log", "verify", sys.argv[1]]) if first == 0 else first)
"""


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Write a log of three files with five lines each: compressed, plain, current."""
    return three_files(tmp_path / "violations.log")


def verify(*words: object) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    called = [*COMMAND, "log", "verify", *map(str, words)]
    return subprocess.run(called, capture_output=True, text=True, check=False, timeout=100)


def test_a_whole_chain_is_one_line_and_exit_code_0(three: list[Path]) -> None:
    """The summary has the files, the lines, the numbers, and what is missing or not proven."""
    done = verify(three[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 files, 15 lines, seq 1 to 15: the chain is intact.\n"
    three[0].unlink()
    assert verify(three[2]).stdout == (
        "2 files, 10 lines, seq 6 to 15: the chain is intact. It begins at seq 6: older files were rotated"
        " away. The content of that first line cannot be verified.\n"
    )


def test_what_is_no_chain_yet_and_what_is_unfinished_is_said(tmp_path: Path) -> None:
    """Lines from before the chain and a torn last line are reported."""
    path = tmp_path / "violations.log"
    path.write_bytes(line("old"))
    assert verify(path).stdout == "1 file, 1 line: the chain has not started. 1 line from before the chain.\n"
    log = AuditLog(path)
    log.append("new", line("new"))
    log.close()
    with path.open("ab") as file:
        file.write(line("torn")[:50])
    assert verify(path).stdout == (
        "1 file, 2 lines, seq 1 to 1: the chain is intact. 1 line from before the chain."
        " 1 line left incomplete by a writer that died.\n"
    )


def test_a_finding_is_one_line_and_exit_code_1(three: list[Path]) -> None:
    """Findings have the file, the line and the reason, in the order of the log, and in JSON."""
    kept = lines(three[1])
    three[1].write_bytes(b"".join([kept[0].replace(b"xx", b"\x1b\xff", 1), kept[1], b"\x07\n", *kept[3:]]))
    three[2].write_bytes(b"".join(lines(three[2])[:2]))
    done = verify(three[2])
    assert (done.returncode, done.stderr) == (1, "")
    assert harm(done.stdout, "\n") == set()
    first, second, third = done.stdout.splitlines()
    assert first.startswith("violations.log.1, line 1: edited: ")
    assert "\\x1b\\xff" in first
    assert second == "violations.log.1, line 3: not JSON: \\x07"
    assert third == "violations.log, line 2: removed: seq 13 to 15 missing at the end, after this line"
    report = json.loads(verify(three[2], "--json").stdout)
    assert [f"{one['file']}, line {one['line']}" for one in report["findings"]] == [
        row.partition(":")[0] for row in done.stdout.splitlines()
    ]
    assert [one["what"] for one in report["findings"]] == done.stdout.splitlines()


def test_the_report_has_the_head_to_keep_elsewhere(three: list[Path]) -> None:
    """`--json` of a complete chain has the number and the value of the last line."""
    done = verify("--json", three[2])
    report = json.loads(done.stdout)
    last = json.loads(lines(three[2])[-1])
    assert done.returncode == 0
    assert report["head"] == report["anchor"] == {"seq": 15, "chain": last["chain"]}
    assert (report["whole"], report["findings"], report["first_seq"]) == (True, [], 1)
    assert report["files"] == [path.name for path in three]


def test_without_the_head_beside_the_log_the_end_is_not_proven(three: list[Path]) -> None:
    """A head file that is missing, damaged or foreign is named."""
    anchor = chain_head_path(three[2])
    anchor.write_bytes(b"\xff\x00" * 10_000)
    assert verify(three[2]).stdout.startswith(
        ".violations.log.head: lines removed at the end cannot be detected: "
    )
    anchor.unlink()
    done = verify(three[2])
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert (
        ".violations.log.head: lines removed at the end cannot be detected: the file does not exist"
        in done.stdout
    )
    anchor.write_text(json.dumps({"head": {"seq": 15, "chain": "0" * 64}}))
    assert verify(three[2]).stdout == (
        "violations.log, line 5: edited: its chain value is not the one in .violations.log.head\n"
    )


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "pipe", "device", "part", "root", "sibling"])
def test_bad_input_is_one_line_that_says_what_to_do(three: list[Path], kind: str) -> None:
    """A missing file, a folder, or a rotated file is a usage error."""
    folder = three[2].parent
    link, pipe, sibling = folder / "link.log", folder / "pipe.log", folder / "violations.log.7"
    link.symlink_to(three[2])
    os.mkfifo(pipe)
    names = {
        "missing": folder / "no\x1bthing.log",
        "folder": folder,
        "link": link,
        "pipe": pipe,
        "device": "/dev/zero",
        "part": three[1],
        "root": "/",
        "sibling": three[2],
    }
    if kind == "sibling":
        sibling.mkdir()
    done = verify(names[kind])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert harm(done.stderr, "\n") == set()
    assert any(word in done.stderr for word in ("give the path", "verify that"))


def test_without_the_right_to_read_the_right_user_is_named(folder: Path) -> None:
    """Without the right to read the files, the error names the user who has it."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    path = folder / "violations.log"
    files = [*three_files(path), chain_head_path(path)]
    for forbidden in (files[0], files[2], files[3], folder):
        folder.chmod(0o755)
        for file in files:
            file.chmod(0o644)
        forbidden.chmod(0o600)
        words = [sys.executable, "-c", AS_NOBODY, str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
        assert "Permission denied; run this as root" in done.stderr


@pytest.mark.parametrize(
    "harmful",
    [
        b"\x00" * 5_000_000,
        b"\n" * 100_000,
        b"\xff\xfe\n" * 10_000,
        b"[" * 500_000 + b"\n",
        b'{"a":' * 300_000 + b"\n",
        b"\x1b]0;owned\x07\x1b[2J\n\xe2\x80\xae\n",
        b'{"id": "a", "seq": 1, "chain": "%b"}\n' % (b"0" * 64),
        b'{"seq": 99999999999999999999999, "chain": ""}\n',
        b'{"id": "%b", "seq": 999999999999999999, "chain": "%b"}\n' % (b"{text}{seq}%s\\", b"f" * 64),
    ],
    ids=["zeros", "empty lines", "no UTF-8", "deep", "deeper", "escapes", "forged", "huge number", "formats"],
)
def test_hostile_bytes_are_findings(three: list[Path], harmful: bytes) -> None:
    """Hostile or random content of plain and compressed files gives a few harmless lines and no traceback."""
    for file in three[:2]:
        whole = b"".join([*lines(file)[:2], harmful, *lines(file)[2:]])
        file.write_bytes(gzip.compress(whole) if file.suffix == ".gz" else whole)
    done = verify(three[2])
    assert (done.returncode, done.stderr) == (1, "")
    assert harm(done.stdout, "\n") == set()
    assert len(done.stdout) < 5000
    assert {row.partition(",")[0] for row in done.stdout.splitlines()} >= {path.name for path in three[:2]}


def test_random_bytes_in_place_of_any_file_are_no_traceback(three: list[Path]) -> None:
    """Random bytes in place of any file of the log, or of the head file, cause no traceback."""
    program = Path(sys.executable).resolve().read_bytes()[:200_000]
    for file in (*three, chain_head_path(three[2])):
        kept = file.read_bytes()
        file.write_bytes(program)
        done = verify("--json", three[2])
        file.write_bytes(kept)
        assert (done.returncode, done.stderr) == (1, "")
        assert harm(done.stdout, "\n") == set()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_log_larger_than_the_memory_is_read(three: list[Path]) -> None:
    """Very long lines and large files need at most 80 MB of memory."""
    with gzip.open(three[0], "wb", compresslevel=1) as packed:
        for _ in range(128):
            packed.write(b"x" * 2**20)
        packed.write(b"\n")
    with three[1].open("wb") as plain:
        row = b"".join(lines(three[2])) * 1000
        for _ in range(80 * 2**20 // len(row) + 1):
            plain.write(row)
    limited = f"ulimit -v 80000; exec {' '.join(COMMAND)} log verify {three[2]}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, ""), done.stderr[-500:]
    assert "violations.log.2.gz, line 1: the line is too long for the log: xxx" in done.stdout


def test_more_files_than_may_be_open_are_read(tmp_path: Path) -> None:
    """More rotated files than the soft limit on descriptors are no problem."""
    path = tmp_path / "violations.log"
    log = AuditLog(path)
    for number in range(60):
        log.append(str(number), line(str(number)))
        path.rename(path.with_name(f"violations.log-{20260101 + number}"))
    log.close()
    limited = f"ulimit -Sn 40; exec {' '.join(COMMAND)} log verify {path}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert done.stdout == "60 files, 60 lines, seq 1 to 60: the chain is intact.\n", done


def test_the_log_of_the_settings_is_verified_while_it_is_written(host: Daemon) -> None:
    """Without a file, the service's log is verified, without asking the service."""
    host.place(gpu(0, use(999_999, 1024, "bob", "python3"), memory_used_mb=45))
    path = host.folder / "violations.log"
    until(lambda: path.exists() and "notice.created" in path.read_text())
    assert host.run("notify", "test", "--channel", "log").returncode == 0
    done = host.run("log", "verify")
    assert (done.returncode, done.stdout) == (0, "1 file, 3 lines, seq 1 to 3: the chain is intact.\n")
    path.write_bytes(path.read_bytes().replace(b"bob", b"eve", 1))
    assert host.stop() == 0
    done = host.run("log", "verify")
    assert done.returncode == 1
    assert done.stdout.startswith("violations.log, line 1: edited: ")


def test_a_copy_elsewhere_is_verified_with_its_head(three: list[Path], tmp_path: Path) -> None:
    """A copied log is complete if the hidden file is copied too, in any order."""
    place = tmp_path / "backup"
    place.mkdir()
    for path in (three[2], chain_head_path(three[2]), three[1], three[0]):
        shutil.copy(path, place)
    assert verify(place / three[2].name).returncode == 0


def test_a_log_under_a_busy_writer_is_whole_at_any_moment(tmp_path: Path) -> None:
    """Lines that are written during the check are no finding."""
    path = tmp_path / "violations.log"
    process = writer(path, 0, 800)
    until(path.exists)
    while process.poll() is None:
        done = verify(path)
        assert (done.returncode, done.stderr) == (0, ""), done
    assert process.wait() == 0
