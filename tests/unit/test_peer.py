"""The peer of a socket, also if its process has ended and its pid belongs to another process."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chosen_pid import running_as
from support.control_groups import control_group, needs_cgroups
from support.daemon import until
from support.descriptors import none_left

from canhazgpu.service.identity import peer as peer_module
from canhazgpu.service.identity.cgroups import NOBODY
from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.identity.peer import OVERFLOW_UID, Peer, complete_peer, peer_of
from canhazgpu.service.identity.user_names import Users

CALLER, SOMEBODY = 4241, 4242

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root chooses pids and login uids")


class Caller:
    """A process that connects and stays until the test ends it; its connection stays open."""

    def __init__(self, folder: Path, login: int = CALLER, uid: int = 0) -> None:
        """Connect from a process with the login uid `login`, and with `uid` as its uid and gid."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "s"))
            listener.listen()
            Path(folder / "s").chmod(0o666)
            self._client = socket.socket(socket.AF_UNIX)
            self._hold, theirs = socket.socketpair()
            self.pid = os.fork()
            if self.pid == 0:
                Path("/proc/self/loginuid").write_text(str(login))
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                self._client.connect(str(folder / "s"))
                self._hold.close()
                theirs.recv(1)
                os._exit(0)
            theirs.close()
            self.connection, _ = listener.accept()

    def end(self) -> None:
        """End the process."""
        if self._hold.fileno() >= 0:
            self._hold.close()
            os.waitpid(self.pid, 0)

    def close(self) -> None:
        """Close everything."""
        self.end()
        self._client.close()
        self.connection.close()


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    """A user of this host."""
    one = Caller(tmp_path)
    yield one
    one.close()


@pytest.fixture
def another(caller: Caller) -> Iterator[None]:
    """A process of another user has the caller's pid."""
    caller.end()
    with running_as(caller.pid, "sh", "-c", f"echo {SOMEBODY} > /proc/self/loginuid; kill -STOP $$"):
        until(lambda: Path(f"/proc/{caller.pid}/loginuid").read_text() == str(SOMEBODY))
        yield


def test_a_caller_is_who_logged_in(caller: Caller) -> None:
    """The login uid of a caller is that of its process."""
    peer = peer_of(caller.connection)
    assert (peer.uid, peer.pid, peer.on_host, peer.login_uid) == (0, caller.pid, True, CALLER)
    assert peer.is_admin(None)


@pytest.mark.parametrize("uid", [SOMEBODY, 2**31, 3_000_000_000, 2**32 - 3])
def test_a_caller_has_the_uid_of_its_processes(uid: int) -> None:
    """The uid and the gid of a caller are the kernel's numbers, also from 2**31 on."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        caller = Caller(Path(folder), uid=uid)
        peer = peer_of(caller.connection)
        caller.close()
    assert (peer.uid, peer.gid, uid in peer.groups, peer.name) == (uid, uid, True, str(uid))


@pytest.mark.parametrize("uid", [NOBODY, OVERFLOW_UID])
def test_a_caller_without_a_uid_is_no_administrator(uid: int) -> None:
    """A caller whose uid the kernel cannot tell is no administrator, whatever its groups."""
    assert not Peer(uid, 0, 1, frozenset({0, 27}), on_host=True).is_admin(27)


@needs_cgroups
@pytest.mark.parametrize("login", [CALLER, NOBODY])
def test_without_a_login_uid_the_session_says_who_logged_in(tmp_path: Path, login: int) -> None:
    """Without an audit login uid, the user of the session's slice counts."""
    with (
        control_group(f"user.slice/user-{SOMEBODY}.slice/session-{os.getpid()}.scope") as scope,
        contextlib.closing(Caller(tmp_path, login)) as caller,
    ):
        (scope / "cgroup.procs").write_text(str(caller.pid))
        assert peer_of(caller.connection).login_uid == (SOMEBODY if login == NOBODY else CALLER)


@pytest.mark.anyio
@pytest.mark.parametrize(("uid", "login"), [(0, CALLER), (999, CALLER), (SOMEBODY, None)])
async def test_a_login_counts_only_for_callers_who_are_no_person(
    uid: int, login: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `su - user`, the caller is that user, without the administrator's login uid."""
    monkeypatch.setattr(peer_module, "CALLER_PATIENCE", 60.0)
    peer = Peer(uid, uid, 1, frozenset(), on_host=True, login_uid=CALLER)
    users = Users()
    assert (await complete_peer(peer, users, OrdinaryUsers(users))).login_uid == login


@pytest.mark.usefixtures("another")
def test_a_caller_that_has_ended_is_nobody_else(caller: Caller) -> None:
    """If the caller's process has ended, the process that has its pid now says nothing about the caller."""
    peer = peer_of(caller.connection)
    assert (peer.uid, peer.pid, peer.on_host, peer.login_uid) == (0, caller.pid, False, None)
    assert not peer.is_admin(None)


def test_without_descriptors_it_is_not_known_who_calls(caller: Caller) -> None:
    """A service that has no descriptor left says neither that the uid is proven nor that it is not."""
    assert peer_of(caller.connection).proven is True
    with none_left():
        assert peer_of(caller.connection).proven is None
    assert peer_of(caller.connection).proven is True
