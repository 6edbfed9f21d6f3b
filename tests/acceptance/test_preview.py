"""`canhazgpu notify preview` prints notices without a service and without sending anything."""

import json
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.hostile import harm
from support.pages import Page

CONTACT = 'contact = "room 214"\n'


@pytest.fixture
def nowhere(folder: Path) -> Daemon:
    """A host without a running service."""
    return Daemon(folder)


def test_the_list_names_every_notice(nowhere: Daemon) -> None:
    """The list has the name and the reader of each notice."""
    shown = nowhere.run("notify", "preview", "--list").stdout.splitlines()
    assert shown[0].split()[0] == "NOTICE"
    names = [line.split()[0] for line in shown[1:]]
    assert {"opened-offender", "opened-holder", "granted-holder", "digest-admins", "test-offender"} <= set(
        names
    )
    rows = json.loads(nowhere.run("notify", "preview", "--list", "--json").stdout)
    assert [row["name"] for row in rows] == names
    assert set(rows[0]) == {"name", "kind", "audience", "about"}


def test_kind_and_audience_choose(nowhere: Daemon) -> None:
    """The notice of this kind for this audience is printed, with its subject."""
    shown = nowhere.run("notify", "preview", "--kind", "expiring", "--audience", "holder").stdout
    assert shown.startswith("== expiring-holder: ")
    assert shown.count("== ") == 1
    assert "\nSubject: [canhazgpu gpu-host-1] your reservation of GPUs 1 and 3 expires in 15m" in shown
    assert "canhazgpu extend --gpu-ids 1,3 --duration 4h\n" in shown
    everything = nowhere.run("notify", "preview").stdout
    assert everything.count("\n== ") + 1 > 50
    assert harm(everything, "\n") == set()


def test_wall_shows_where_a_terminal_cuts(nowhere: Daemon) -> None:
    """For a terminal there is no subject and no bell, at most 1024 bytes, and the length."""
    words = ("notify", "preview", "--kind", "opened", "--audience", "offender", "--channel", "wall")
    shown = nowhere.run(*words).stdout
    (many,) = [part for part in shown.split("== ") if part.startswith("opened-offender-many")]
    text, size = many.split("\n", 1)[1].rstrip("\n").rsplit("\n", 1)
    assert size.startswith("-- ")
    assert size.endswith(" of 1024 bytes")
    assert int(size.split()[1]) == len(("\a\n" + text + "\n").replace("\n", "\r\n").encode())
    assert "  … more: canhazgpu status\nQuestions: " in text
    assert "Subject" not in shown
    assert "\a" not in shown


def test_a_page_is_a_page(nowhere: Daemon) -> None:
    """`--html` prints only the page; JSON has it next to the text, in ASCII."""
    words = ("notify", "preview", "--kind", "digest", "--audience", "admins")
    html = nowhere.run(*words, "--html").stdout
    assert html.startswith("<!DOCTYPE html>")
    rows = json.loads(text := nowhere.run(*words, "--json").stdout)
    assert text.isascii()
    assert "".join(row["html"] for row in rows) == html
    assert all(Page(row["html"]).wrong == [] for row in rows)
    assert set(rows[0]) == {"name", "kind", "audience", "about", "subject", "lines", "terminal", "html"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kind", "opend"), "--kind: expected one of opened, changed, "),
        (("--audience", "everybody"), "--audience: expected one of offender, holder, admins, address, not"),
        (("--channel", "pigeon"), "--channel: expected one of wall, email, not pigeon"),
        (
            ("--kind", "stalled", "--audience", "holder"),
            "--audience with --kind stalled: expected one of admins,",
        ),
        (("--violation", "v1", "--kind", "granted"), "--kind: expected one of opened, changed, reminder, "),
        (("--html", "--channel", "wall"), "cannot be used together"),
        (
            ("--violation", "17"),
            "17 is not the id of a violation, such as v1764061802123-17 or its beginning",
        ),
    ],
)
def test_what_there_is_not_is_said_with_what_there_is(
    nowhere: Daemon, words: tuple[str, ...], said: str
) -> None:
    """An unknown value is a usage error on one line."""
    done = nowhere.run("notify", "preview", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_real_violation_is_shown_as_each_notice_and_nothing_is_sent(host: Daemon) -> None:
    """A real violation is previewed by its id, with this host's name; an unknown one is refused."""
    config = host.folder / "config.toml"
    config.write_text(config.read_text().replace("[notices]\n", "[notices]\n" + CONTACT))
    host.place(gpu(0, use(999_999, 1024, "bob", "<b>python3")))
    rows = until(lambda: json.loads(host.run("violations", "--json").stdout))
    until(lambda: json.loads(host.run("deliveries", "--json").stdout) and settled(host) and settled(host))
    before = host.run("deliveries", "--json").stdout
    name = rows[0]["violation"]
    shown = host.run("notify", "preview", "--violation", name).stdout
    for kind in ("opened", "changed", "reminder", "resolved", "terminate"):
        assert f"== {kind}-admins: violation {name}\n" in shown
    assert "canhazgpu on testhost: bob has been using GPU 0 without a reservation since" in shown
    assert "PID 999999 (<b>python3), 1024MB" in shown
    assert "Questions: room 214\n" in shown
    assert f": violation {name}\n" in host.run("notify", "preview", "--violation", name[:-1]).stdout
    page = host.run("notify", "preview", "--violation", name, "--kind", "opened", "--html").stdout
    assert "&lt;b&gt;python3" in page
    assert host.run("deliveries", "--json").stdout == before
    gone = host.run("notify", "preview", "--violation", "v999999")
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)
    assert "no violation v999999" in gone.stderr


def settled(host: Daemon) -> bool:
    """Whether every group has read and acknowledged everything, so that no notice is under way.

    What a stream leads to on one that was looked at before is seen the next time.
    """
    with host.redis() as client:
        groups = [
            group
            for stream in ("violations", "notices", "deliveries")
            for group in client.xinfo_groups(f"canhazgpu:{{testhost}}:{stream}")
        ]
    return all(group["pending"] == group["lag"] == 0 for group in groups)
