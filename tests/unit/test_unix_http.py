"""The client's HTTP, against the bytes of a server on a real socket."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from canhazgpu.client import Client, Unreachable
from canhazgpu.client.unix_http import Answer, BrokenAnswer, connect, is_readable, send

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Serve = Callable[..., Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Answer one request with these pieces, each in a write of its own, and close."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    threads = []

    def start(*pieces: bytes) -> Path:
        def answer() -> None:
            link, _ = listener.accept()
            with link, suppress(BrokenPipeError):  # The client may leave before it has read everything.
                link.recv(65536)
                for piece in pieces:
                    link.sendall(piece)

        threads.append(threading.Thread(target=answer))
        threads[0].start()
        return tmp_path / "s"

    yield start
    for thread in threads:
        thread.join(60)
    listener.close()


@contextmanager
def ask(path: Path) -> Iterator[Answer]:
    """Send a request; give its answer."""
    with closing(connect(str(path), 60, 60)) as link:
        send(link, "GET", "/", None)
        yield Answer(link)


def chunked(*parts: bytes) -> bytes:
    """Return a body in chunks."""
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts)


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"Content-Length: 5\r\n\r\nab\ncd"],
        [HEAD[:7], HEAD[7:], b"content-length:5\r\n\r\na", b"b\ncd", b"what follows is another answer's"],
        [HEAD + b"\r\nab", b"\ncd"],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"ab\n", b"cd") + b"0\r\n\r\n"],
        [HEAD, b"transfer-encoding: Chunked\r\n\r\n", chunked(b"a", b"b\nc", b"d"), b"0\r\nT: 1\r\n\r\n"],
    ],
)
def test_a_body_is_read_however_it_is_framed(serve: Serve, pieces: list[bytes]) -> None:
    """With a length, in chunks, or until the connection ends; in one packet or in many."""
    with ask(serve(*pieces)) as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert list(answer) == [b"ab", b"cd"]


@pytest.mark.parametrize(
    "piece",
    [
        HEAD + b"Content-Length: 5\r\n\r\nab",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"ab"),
        HEAD[:-4],
        b"",
    ],
)
def test_an_answer_that_is_cut_is_an_error(serve: Serve, piece: bytes) -> None:
    """Half an answer is never taken for a whole one."""
    with pytest.raises(BrokenAnswer, match="is incomplete"), ask(serve(piece)) as answer:
        answer.read()


@pytest.mark.parametrize(
    "piece",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: five\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        HEAD + b"".join(b"h%d: 1\r\n" % number for number in range(200)) + b"\r\n",
        b"a" * 70000,
    ],
)
def test_what_is_not_http_is_an_error(serve: Serve, piece: bytes) -> None:
    """Something else listens there: the caller gets one sentence."""
    with pytest.raises(Unreachable, match=r"does not answer on .*: the answer is not HTTP; see its log"):
        Client(str(serve(piece))).get("/v1/status")


@pytest.mark.parametrize("target", ["/a b", "/a\r\nHost: b", "/ä", "/a\0"])
def test_a_target_cannot_add_a_header(target: str) -> None:
    """Whatever a caller puts into a path."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="cannot be the target"):
        send(ours, "GET", target, None)


def test_waiting_for_an_answer_takes_nothing_of_it() -> None:
    """Whether something can be read is found out without reading it; the end can be read too."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(60)
        with theirs:
            assert not is_readable(ours, 0.001)
            theirs.sendall(b"a")
            assert is_readable(ours, 0)
            assert ours.recv(9) == b"a"
        assert is_readable(ours, 0)
        assert ours.gettimeout() == 60


def test_lines_arrive_one_by_one(tmp_path: Path) -> None:
    """A line of a stream is given before the next one is sent."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        lines = Client(str(tmp_path / "s")).lines("/v1/events")
        got: list[dict[str, int]] = []
        reader = threading.Thread(target=lambda: got.extend(lines))
        reader.start()
        link, _ = listener.accept()
        with link:
            link.recv(65536)
            link.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            for number in range(3):
                link.sendall(chunked(b'{"n": %d}\n' % number))
                while len(got) <= number:
                    reader.join(0.01)
            link.sendall(b"0\r\n\r\n")
        reader.join(60)
    assert got == [{"n": 0}, {"n": 1}, {"n": 2}]
