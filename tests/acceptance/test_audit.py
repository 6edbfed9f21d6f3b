"""`canhazgpu violations` for administrators: who, when, whether they were notified, and all details."""

import csv
import io
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.event_history import DAY, HOUR, MINUTE, SECOND, EventHistory, violation, write
from support.hostile import harm, on_a_terminal, toml
from support.people import Person

from canhazgpu.cli.violations.listing import COLUMNS
from canhazgpu.client import Client, Refused

NASTY = "\x1b[2J\r\nBcc: victim@example.com\r\n\r\nGPU 7\0\u202e\x9b"
ADDRESS = re.compile(r"[\w…]+@example\.com")
HEADER = "VIOLATION USER GPU KIND SINCE LASTED PEAK GIB NOTIFIED PROCESSES"
BEFORE = "violation,state,kind,user,gpu,since,closed,duration_s,peak_memory_mb,reason,evidence"


def _used(user: str, name: str) -> str:
    line = f"pid = 4000001;memory_mb = 1024;user = {toml(user)};name = {toml(name)}"
    return gpu(0, line, memory_used_mb=45)


def _rows(daemon: Daemon, *words: str) -> list[dict[str, Any]]:
    done = daemon.run("violations", "--json", *words)
    assert done.returncode == 0, done
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.fixture
def audited(folder: Path) -> Any:
    """A service with a history: three violations of bob's and one of ann's."""
    daemon = Daemon(folder).start("--no-workers")
    now = round(time.time() * 1000)

    def tell(past: EventHistory) -> None:
        for number, (ago, lasted) in enumerate([(20 * DAY, 2 * HOUR), (DAY, 90 * MINUTE), (5 * HOUR, HOUR)]):
            one = past.open(violation(now - ago, number), now - ago)
            past.attempt(
                now - ago + 2 * SECOND,
                past.notice(now - ago + SECOND, one),
                "wall",
                "delivered" if number else "nobody",
            )
            past.close(one, now - ago + lasted)
        facts = {"user": "ann", "key": "uid:1002", "uid": 1002, "person": None, "gpu": 3, "kind": "trespass"}
        ann = past.open(violation(now - 2 * HOUR, 9, holder="bob", **facts), now - 2 * HOUR)
        past.close(ann, now - HOUR, "reserved")

    write(daemon, tell)
    yield daemon
    daemon.stop()


def test_the_table_says_who_was_told_and_what_it_comes_to(audited: Daemon) -> None:
    """Each row has the id, the kind and whether the user was notified; the last line has the sums."""
    lines = audited.run("violations", "--since", "30d").stdout.splitlines()
    assert " ".join(lines[0].split()) == HEADER
    told = [re.split(r"  +", line)[7] for line in lines[1:5]]
    assert told == ["unreached", "reached", "reached", "-"]
    assert all(re.match(r"v\d{13}-\d+  ", line) for line in lines[1:5])
    assert lines[-1] == "4 in all (5.5 h): bob 3 (4.5 h), ann 1 (1.0 h)"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", 3),
        ("--since 30d", 4),
        ("--since 30d --user ann", 1),
        ("--since 30d --gpu 3", 1),
        ("--since 30d --kind trespass", 1),
        ("--since 30d --kind overstaying", 0),
        ("--since 30d --until 10d", 1),
        ("--since 30d --unreached", 1),
        ("--unreached", 0),
        ("--open", 0),
    ],
)
def test_each_option_leaves_out_what_it_says(audited: Daemon, words: str, found: int) -> None:
    """Each option filters the table and the JSON alike; without a match, one line says so."""
    assert len(_rows(audited, *words.split())) == found
    text = audited.run("violations", *words.split()).stdout
    assert (f"{found} in all" in text) == bool(found)
    assert found or (text.startswith("No ") and text.count("\n") == 1)


def test_the_csv_has_its_new_columns_at_the_end(audited: Daemon) -> None:
    """The CSV has its new columns at the end, so the positions of the old ones do not change."""
    header, *rows = csv.reader(io.StringIO(audited.run("violations", "--csv").stdout))
    assert header == [*BEFORE.split(","), "told", "reached_at"]
    assert [row[-2] for row in rows] == ["reached", "reached", ""]
    assert [bool(row[-1]) for row in rows] == [True, True, False]
    assert tuple(header) == COLUMNS


def test_one_is_shown_by_the_beginning_of_its_id(audited: Daemon) -> None:
    """A violation is found by the start of its id; an ambiguous or unknown id is an error on one line."""
    rows = _rows(audited, "--since", "30d")
    whole = rows[0]["violation"]
    alone = next(whole[:length] for length in range(2, 20) if _beginners(rows, whole[:length]) == 1)
    for text in (whole, alone):
        done = audited.run("violations", "show", text)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"Violation: {whole}\n" in done.stdout
    many = audited.run("violations", "show", "v1")
    assert (many.returncode, many.stdout, many.stderr.count("\n")) == (2, "", 1)
    assert whole in many.stderr
    none = audited.run("violations", "show", "v9")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr == "Error: there is no violation v9 (`canhazgpu violations` lists them)\n"


def _beginners(rows: list[dict[str, Any]], text: str) -> int:
    return sum(row["violation"].startswith(text) for row in rows)


def test_a_time_line_is_there_for_people_and_for_programs(audited: Daemon) -> None:
    """The facts come first, then the history, oldest first; the JSON has the same entries."""
    whole = _rows(audited, "--since", "30d")[0]["violation"]
    text = audited.run("violations", "show", whole).stdout
    head, table = text.split("\n\n")
    assert "User:      bob (uid 1001)\n" in head
    assert "Lasted:    2h 0m 0s\n" in head
    assert "Notified:  unreached" in head
    lines = table.splitlines()
    assert lines[0].split() == ["TIME", "EVENT", "WHAT", "HAPPENED"]
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  "
    assert [re.sub(moment, "", line).split()[0] for line in lines[1:]] == [
        "violation.opened",
        "notice.created",
        "notice.attempted",
        "violation.closed",
    ]
    assert lines[1:] == sorted(lines[1:])
    found = json.loads(audited.run("violations", "show", whole, "--json").stdout)
    assert [one["sentence"] for one in found["moments"]] == [
        re.split("  +", re.sub(moment, "", line), maxsplit=1)[1] for line in lines[1:]
    ]
    assert found["violation"]["told"] == "unreached"
    assert found["moments"][2]["attempt"]["outcome"] == "nobody"


def test_the_api_refuses_what_makes_no_sense(audited: Daemon) -> None:
    """Every wrong filter has a status, a type and a sentence that names it."""
    for query, status, kind, said in (
        ("?since=soon", 400, "bad-request", "since: 'soon' is not a duration"),
        ("?since=1h&until=2h", 400, "bad-request", "since is not before until"),
        ("?gpu=-1", 400, "bad-request", "gpu: '-1' is not the number of a GPU"),
        ("?kind=theft", 400, "bad-request", "use one of unreserved, trespass, overstaying"),
        ("?user=", 400, "bad-request", "user: the value is empty"),
        ("/v9", 404, "no-such-violation", "there is no violation v9"),
        ("/%1b%5b2J", 404, "no-such-violation", r"there is no violation \x1b[2J"),
        ("/v1", 400, "ambiguous-id", "v1 matches more than one violation: v1"),
    ):
        with pytest.raises(Refused) as no:
            Client(str(audited.folder / "s")).get(f"/v1/violations{query}")
        assert (no.value.status, no.value.kind) == (status, kind), query
        assert said in no.value.detail


@pytest.mark.parametrize(
    "words",
    [
        ("--kind", "theft"),
        ("--user", ""),
        ("--since", ""),
        ("--gpu", "-1"),
        ("--gpu", "all"),
        ("--since", "2026-02-30"),
        ("--until", "tomorrow"),
        ("--since", "1h", "--until", "2h"),
        ("--since", "2126-01-01"),
        ("--json", "--csv"),
        ("--open", "show", "v1"),
        ("show",),
        ("show", "v1", "v2"),
        ("show", "nonsense"),
        ("show", "x17"),
        ("show", ""),
        ("show", "v1/../../health"),
        ("show", "v1?x=\x1b[2J"),
        ("shows",),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_one_line(folder: Path, words: tuple[str, ...]) -> None:
    """A wrong option is a usage error before the service is asked; an error about kinds lists them."""
    done = Daemon(folder).run("violations", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert done.stderr.startswith("Error: ")
    if "--kind" in words:
        assert "unreserved, trespass, overstaying" in done.stderr


def test_kinds_are_completed(folder: Path) -> None:
    """Shell completion of --kind offers the kinds."""
    for begun, offered in (("", ["unreserved", "trespass", "overstaying"]), ("tr", ["trespass"])):
        line = f"canhazgpu violations --kind {begun}"
        asked = {"_CANHAZGPU_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}
        environment = Daemon(folder).environment | asked
        words = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
        assert words.stdout.split() == offered


def test_addresses_are_seen_by_who_may_see_them(mailing: tuple[Daemon, Path], people: list[Person]) -> None:
    """Mail addresses are shown to root and to the recipient, but not to other users."""
    daemon, mails = mailing
    bob, ann = people
    process = bob.spawn("sleep", "600")
    daemon.place(gpu(0, use(process.pid, 1024)))
    until(lambda: len(list(mails.glob("*.eml"))) == 2)
    (row,) = until(lambda: [row for row in _rows(daemon) if row["told"] == "reached"])
    assert row["reached_at"] > row["since"]
    own, others = f"{bob.name}@example.com", "admins@example.com"
    shows = ["violations", "show", row["violation"]]

    def seen(words: list[str], person: Person | None = None) -> str:
        done = daemon.run(*words, person=person, cwd="/")
        assert (done.returncode, done.stderr) == (0, "")
        return json.dumps(json.loads(done.stdout), ensure_ascii=False) if "--json" in words else done.stdout

    until(lambda: others in seen(shows))
    for words in (shows, [*shows, "--json"], ["deliveries"], ["deliveries", "--json"]):
        assert {own, others} <= set(ADDRESS.findall(seen(words)))
        assert set(ADDRESS.findall(seen(words, bob))) == {own, "a…@example.com"}
        assert set(ADDRESS.findall(seen(words, ann))) == {f"{bob.name[0]}…@example.com", "a…@example.com"}
    assert bob.name in seen(shows, ann), "facts are for everybody"
    process.kill()


def test_hostile_names_stay_harmless_in_the_time_line(mailing: tuple[Daemon, Path]) -> None:
    """Hostile text adds no line, no formula and nothing invisible to terminal, JSON and CSV."""
    daemon, mails = mailing
    daemon.place(_used(NASTY, NASTY))
    until(lambda: list(mails.glob("*.eml")))
    name = _rows(daemon)[0]["violation"]
    for words in (("violations",), ("violations", "show", name), ("violations", "--csv")):
        shown = re.sub(r"\x1b\[\d+m", "", on_a_terminal(daemon, *words))
        assert name in shown
        assert harm(shown, "\r\n") == set()
        assert not re.search(r"^(GPU 7|Bcc)", shown, re.MULTILINE)
    text = daemon.run("violations", "show", name, "--json").stdout
    assert text.isascii()
    assert harm(text, "\n") == set()
    plain = {**daemon.environment, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*COMMAND, "violations", "show", name], env=plain, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
