"""The page of a host that is in a fleet: all hosts, and each of them."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.daemon import Daemon, gpu, until, use
from support.exporter import exporting, values
from support.fleet import fleet_server
from support.people import Person
from support.web import Watcher, page_of


@contextmanager
def member(name: str, url: str, *gpus: str) -> Iterator[Daemon]:
    """Run the service of a host of the fleet."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        daemon = Daemon(Path(folder), f'[fleet]\nurl = "{url}"\ninterval = "1s"\n', host=name)
        daemon.place(*gpus)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()


def test_all_hosts_are_on_one_page_and_each_has_its_own(tmp_path: Path) -> None:
    """Each host has a row, and a page with its cards; one that is gone is shown as it was."""
    with ExitStack() as resources:
        server = resources.enter_context(fleet_server(tmp_path))
        url = f"redis://127.0.0.1:{server.port}"
        one = resources.enter_context(member("gpu01", url, gpu(0), gpu(1)))
        with member("gpu02", url, gpu(0), gpu(1, use(5004242, 8000, "bob", "train.py")), gpu(2)):
            until(lambda: one.run("status", "--host", "gpu02").stdout.count("WITHOUT") == 1, 30)
            page = resources.enter_context(page_of(one))
            summary = "2 hosts with 5 GPUs, of which 4 are available now"
            text = until(lambda: summary in (found := page.get("/hosts").text) and found, 30)
            assert 'href="/hosts/gpu02"' in text
            assert "1 used without reservation" in text
            figures = values(page.get("/metrics/fleet").text)
            with exporting(one) as exporter:
                assert set(values(exporter.text("/metrics/fleet"))) == set(figures)
            assert figures["canhazgpu_fleet_up", frozenset()] == 1
            labels = frozenset({("host", "gpu02"), ("state", "unreserved")})
            assert figures["canhazgpu_fleet_gpus", labels] == 1
            text = page.get("/hosts/gpu02").text
            assert text.count("<article") == 3
            assert "train.py" in text
            assert 'href="/violations/' not in text  # That page is on the other host.
        until(lambda: "away: " in page.get("/hosts").text, 30)
        text = page.get("/hosts/gpu02").text
        assert "This is not the current state: " in text
        assert text.count("<article") == 3
        assert page.get("/hosts/gpu99").status_code == 404
        assert 'href="/hosts"' in page.get().text


def test_the_pages_of_hosts_are_live(tmp_path: Path) -> None:
    """What changes on another host is sent to who watches all hosts or that one, and so is its age."""
    with ExitStack() as resources:
        server = resources.enter_context(fleet_server(tmp_path))
        url = f"redis://127.0.0.1:{server.port}"
        one = resources.enter_context(member("gpu01", url, gpu(0, memory_used_mb=1)))
        page = resources.enter_context(page_of(one))
        with member("gpu02", url, gpu(0, memory_used_mb=1), gpu(1, memory_used_mb=1)) as two:
            until(lambda: "of which 3 are available now" in page.get("/hosts").text, 60)
            assert 'data-live="/live/hosts/gpu02"' in page.get("/hosts/gpu02").text
            every, single = (Watcher(page, path=path) for path in ("/live/hosts", "/live/hosts/gpu02"))
            for watcher in (every, single):
                resources.callback(watcher.close)
                watcher.until("event: beat")
            assert two.run("reserve", "--gpu-ids", "1", "--note", "far away").returncode == 0
            single.until("far away", 60)
            every.until("1 reserved", 60)
        every.until("away: no sign of life", 60)
        single.until("This is not the current state: ", 60)
        server.kill()
        words = 'This is not the current state: ","the fleet\'s Redis cannot be read'
        for watcher in (every, single):
            watcher.until(words, 60)
        text = page.get("/hosts").text  # It has what was known.
        assert 'href="/hosts/gpu02"' in text
        assert "the fleet&#x27;s Redis cannot be read" in text
        every.received = b""
        server.start()
        every.until('"notice empty"', 60)


def test_a_host_that_is_none_has_no_stream(lasting_host: Daemon) -> None:
    """Who asks for the changes of a host that there is not, or without a fleet, is refused."""
    with page_of(lasting_host) as page:
        assert "canhazgpu_fleet_up 0.0" in page.get("/metrics/fleet").text
        for path in ("/live/hosts", "/live/hosts/gpu99"):
            answer = page.get(path)
            assert (answer.status_code, answer.headers["content-type"][:10]) == (503, "text/plain")


def test_without_a_fleet_there_is_no_such_page(lasting_host: Daemon) -> None:
    """The navigation does not name the page, and its address says how to be in a fleet."""
    with page_of(lasting_host) as page:
        assert 'href="/hosts"' not in page.get().text
        answer = page.get("/hosts")
        assert answer.status_code == 409
        assert "this host is not in a fleet; set fleet.url" in answer.text


def test_who_may_not_see_the_fleet_reads_why(folder: Path, tmp_path: Path, people: list[Person]) -> None:
    """If only some groups may read the fleet, the page of another user says so, and has no link to it."""
    with fleet_server(tmp_path) as server:
        fleet = f'[fleet]\nurl = "redis://127.0.0.1:{server.port}"\ninterval = "1s"\nreaders = ["nogroup"]\n'
        daemon = Daemon(folder, fleet, host="gpu01").start()
        try:
            with page_of(daemon, people[0]) as page:
                answer = page.get("/hosts")
                assert answer.status_code == 403
                assert "you may not see the other hosts" in answer.text
                assert 'href="/hosts"' not in page.get().text
        finally:
            daemon.stop()
