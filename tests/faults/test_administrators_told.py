"""Notices to administrators on terminals, with real groups, real terminals and slow directories."""

import contextlib
import fcntl
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.notices import notice
from support.people import Person, Terminal

from canhazgpu.config.settings import Settings
from canhazgpu.events.linux import user_lookup
from canhazgpu.events.notices import ADMINS, Notice
from canhazgpu.notifiers.channels.terminals import owned_terminals, terminals_of
from canhazgpu.notifiers.channels.wall import Wall

WRAPPER = next(iter(glob("/usr/lib/*/libnss_wrapper.so")), "")  # noqa: PTH207 - two levels, no pattern of Path's
HANGS = """
#include <errno.h>
#include <nss.h>
#include <stdlib.h>
#include <unistd.h>
static enum nss_status hang(int *err) {
    while (access(getenv("SLOW"), F_OK) == 0) usleep(10000);
    *err = ENOENT; return NSS_STATUS_NOTFOUND;
}
enum nss_status _nss_test_getpwuid_r(uid_t u, void *p, char *b, size_t n, int *e) { return hang(e); }
enum nss_status _nss_test_getpwnam_r(const char *c, void *p, char *b, size_t n, int *e) { return hang(e); }
enum nss_status _nss_test_setpwent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_test_endpwent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_test_getpwent_r(void *p, char *b, size_t n, int *e) { return hang(e); }
enum nss_status _nss_test_getgrnam_r(const char *c, void *g, char *b, size_t n, int *e) { return hang(e); }
enum nss_status _nss_test_getgrgid_r(gid_t i, void *g, char *b, size_t n, int *e) { return hang(e); }
enum nss_status _nss_test_setgrent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_test_endgrent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_test_getgrent_r(void *g, char *b, size_t n, int *e) { return hang(e); }
enum nss_status _nss_test_initgroups_dyn(const char *u, gid_t g, long *s, long *z, gid_t **p, long l, int *e)
{ return hang(e); }
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for look-ups also on a busy machine."""
    monkeypatch.setattr(user_lookup, "PATIENCE", 60.0)


@pytest.fixture
def wheel() -> Iterator[str]:
    """A group wheel, if this host has none; another test run waits until it is no longer needed."""
    with (Path(tempfile.gettempdir()) / "canhazgpu-tests-wheel").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(["groupadd", "wheel"], check=False, capture_output=True).returncode == 0
        yield "wheel"
        if made:
            subprocess.run(["groupdel", "--force", "wheel"], check=False)


@pytest.fixture
def terminals(people: list[Person]) -> Iterator[list[Terminal]]:
    """Open a terminal for each user."""
    with contextlib.ExitStack() as closing:
        made = [Terminal(person) for person in people]
        for terminal in made:
            closing.callback(terminal.close)
        yield made


def to_administrators() -> Notice:
    """Return a notice for administrators."""
    return notice("python3", audience=ADMINS, person=None)


async def names_of(settings: Settings, people: list[Person]) -> set[str]:
    """Return which of these users the channel would notify as administrators."""
    found = await Wall(settings).recipients(to_administrators())
    return {person.name for person in people} & set(found)


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["--append --groups", "--gid"], ids=["member", "primary group"])
@pytest.mark.parametrize("group", ["sudo", "wheel"])
async def test_who_may_act_as_root_is_told(
    people: list[Person], terminals: list[Terminal], wheel: str, group: str, how: str
) -> None:
    """Logged-in members of sudo or wheel are notified; with an admin_group, only its members."""
    if group != wheel and subprocess.run(["getent", "group", group], check=False).returncode:
        pytest.skip(f"there is no group {group}")
    admin, other = people
    assert await names_of(Settings(), people) == set()
    subprocess.run(["usermod", *how.split(), group, admin.name], check=True)
    try:
        assert await names_of(Settings(), people) == {admin.name}
        (mine,) = await Wall(Settings()).deliver(to_administrators(), [admin.name], None)
        assert (mine.recipient.partition(":")[0], mine.verdict) == (admin.name, "delivered")
        until(lambda: "GPU 0" in terminals[0].text)
        assert terminals[1].text == ""
        assert await names_of(Settings(admin_group=other.name), people) == {other.name}
        terminals[0].leader.kill()
        terminals[0].leader.wait()
        until(lambda: not owned_terminals(admin.uid, admin.name))
        assert await names_of(Settings(), people) == set()
    finally:
        subprocess.run(["usermod", "--gid", str(admin.gid), admin.name], check=True)


@contextlib.contextmanager
def at_terminal(*program: str, owner: int = 0) -> Iterator[str]:
    """Let a program of root have a terminal that belongs to `owner`; yields the terminal's path."""
    master, slave = pty.openpty()
    os.fchown(slave, owner, -1)
    os.fchmod(slave, 0o620)
    process = subprocess.Popen(["setsid", "--ctty", *program], stdin=slave)
    try:
        name = Path(program[0]).name
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == name)
        yield os.ttyname(slave)
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


def test_a_terminal_on_which_somebody_became_root_is_theirs(people: list[Person]) -> None:
    """After `sudo -i`, the terminal still belongs to the user, so root has none of its own there."""
    with at_terminal("sleep", "600", owner=people[0].uid) as path:
        until(lambda: path in terminals_of(0, "root"))
        assert path not in owned_terminals(0, "root")


def test_a_login_prompt_is_nobodys_terminal(tmp_path: Path) -> None:
    """A terminal with only agetty does not count; one with a shell of root's does."""
    if os.getuid() != 0:
        pytest.skip("a terminal of root's needs root")
    prompt = tmp_path / "agetty"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", prompt)
    with at_terminal(str(prompt), "600") as path:
        assert path not in owned_terminals(0, "root")
    with at_terminal("sleep", "600") as path:
        assert path in owned_terminals(0, "root")


def test_a_fresh_installation_tells_who_may_act_as_root(
    folder: Path, people: list[Person], terminals: list[Terminal]
) -> None:
    """A violation without a proven user is shown on the terminal of a member of sudo."""
    if subprocess.run(["getent", "group", "sudo"], check=False, capture_output=True).returncode:
        pytest.skip("there is no group sudo")
    admin = people[0]
    subprocess.run(["usermod", "--append", "--groups", "sudo", admin.name], check=True)
    daemon = Daemon(folder, '[[notices.steps]]\nafter = "0s"\nchannels = ["wall"]\nto = ["admins"]\n').start()
    try:
        daemon.place(gpu(0, use(daemon.process.pid if daemon.process else 0, 1024)))
        until(lambda: "GPU 0" in terminals[0].text, 15)
        assert terminals[1].text == ""
        assert "notices to administrators appear only" not in daemon.log.read_text()
    finally:
        daemon.stop()


class Directory:
    """Users and groups of a host, next to a directory that hangs while the file `slow` exists."""

    def __init__(self, folder: Path) -> None:
        """Build the module that answers for it; nobody is in sudo, and there is no wheel."""
        self.folder, self._module = folder, folder / "libnss_test.so.2"
        (folder / "nss.c").write_text(HANGS)
        words = ["gcc", "-shared", "-fPIC", "-w", "-o", str(self._module), str(folder / "nss.c")]
        subprocess.run(words, check=True)
        self.passwd, self.group = folder / "passwd", folder / "group"
        self.passwd.write_text("root:x:0:0::/:/bin/sh\nann:x:4242:4242::/:/bin/sh\n")
        self.group.write_text("root:x:0:\ntty:x:5:\nsudo:x:27:\nlab:x:4243:\n")

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which a process uses it."""
        return {
            "LD_PRELOAD": WRAPPER,
            "NSS_WRAPPER_PASSWD": str(self.passwd),
            "NSS_WRAPPER_GROUP": str(self.group),
            "NSS_WRAPPER_MODULE_SO_PATH": str(self._module),
            "NSS_WRAPPER_MODULE_FN_PREFIX": "test",
            "SLOW": str(self.folder / "slow"),
        }


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A directory that answers."""
    if not WRAPPER:
        pytest.skip("libnss-wrapper is not installed")
    return Directory(tmp_path)


@pytest.mark.parametrize(
    ("group", "sudo", "said"),
    [
        ("", "", "admin_group is not set, and nobody is in sudo or wheel"),
        ("", "ann", ""),
        ("", "gone", "admin_group is not set, and nobody is in sudo or wheel"),
        ("lab", "ann", "nobody is in lab"),
    ],
)
def test_that_nobody_hears_is_said(
    folder: Path, directory: Directory, group: str, sudo: str, said: str
) -> None:
    """If nobody is an administrator, the log at the start and `doctor` say so, with a remedy."""
    directory.group.write_text(directory.group.read_text().replace("sudo:x:27:", f"sudo:x:27:{sudo}"))
    daemon = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(f'admin_group = "{group}"\n' + config.read_text())
    environment = daemon.environment | directory.environment
    with daemon.log.open("ab") as log:
        service = subprocess.Popen([*COMMAND, "serve"], env=environment, stdout=log, stderr=log)
    try:
        until(lambda: daemon.run("status").returncode == 0, 20)
        asked = [*COMMAND, "doctor"]
        doctor = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False).stdout
    finally:
        service.terminate()
        assert service.wait(60) == 0
    for text in (daemon.log.read_text(), doctor):
        appear = "notices to administrators appear only where root is logged in"
        for words in (appear, said or "nobody is in", "set admin_group"):
            assert (words in text) == bool(said), text


def test_a_directory_that_hangs_holds_up_no_notice(directory: Directory) -> None:
    """While the directory hangs, administrators from the host's own files are notified in time."""
    directory.group.write_text(directory.group.read_text().replace("sudo:x:27:", "sudo:x:27:ann"))
    script = """
        import os, pty, time, anyio
        from pathlib import Path
        from support.notices import notice
        from canhazgpu.config.settings import Settings
        from canhazgpu.events.linux import user_lookup as lookups
        from canhazgpu.events.linux.user_lookup import look_up
        from canhazgpu.notifiers.channels.wall import Wall
        from canhazgpu.events.linux.administrators import Administrators
        lookups.PATIENCE = 0.3
        slow = Path(os.environ["SLOW"])
        for uid in (4240, 4242, 4244):  # Of the others nobody but the directory knows.
            os.fchown(pty.openpty()[1], uid, -1)
        worst = last = 0.0
        async def beat():
            global worst, last
            last = time.monotonic()
            while True:
                await anyio.sleep(0.01)
                worst, last = max(worst, time.monotonic() - last), time.monotonic()
        async def main():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(beat)
                asked = Administrators("")
                slow.touch()
                for _ in range(3):
                    began = time.monotonic()
                    print(await asked.logged_in(), time.monotonic() - began < 10)
                print(await asked.members())
                lab = Administrators("lab")  # It is in the host's own file; the groups of ann are not.
                print(await lab.logged_in(), 4242 in lab._asking)
                (zed,) = await Wall(Settings()).deliver(notice("python3", audience="holder"), ["zed"], None)
                print(zed.verdict, zed.detail)
                slow.unlink()
                while not all(one.ended for one in asked._asking.values()): await anyio.sleep(0.01)
                lookups.PATIENCE = 60.0
                asked = Administrators("")
                print(await asked.logged_in(), await asked.members())
                tasks.cancel_scope.cancel()
        anyio.run(main)
        print(worst < 10)
        slow.touch()
        look_up("zed")
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    environment = os.environ | directory.environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = "{'ann': 4242}"
    expected = [f"{found} True"] * 3 + [
        f"({found}, False)",
        "{} True",
        "retry the user database does not answer",
        f"{found} ({found}, True)",
        "True",
    ]
    assert done.stdout.splitlines() == expected
