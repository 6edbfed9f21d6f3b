"""Names of users from a directory that is slow, down, or changes (libnss_wrapper)."""

import os
import subprocess
import sys
import textwrap
from glob import glob
from pathlib import Path

import pytest
from support.daemon import until

from canhazgpu.service.identity.local_users import LocalUsers
from canhazgpu.service.identity.user_names import FRESH, KEPT, RETRY, Users

WRAPPER = next(iter(glob("/usr/lib/*/libnss_wrapper.so")), "")  # noqa: PTH207 - two levels, no pattern of Path's
MODULE = """
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static enum nss_status answer(struct passwd *pw, char *buf, size_t n, const char *name, uid_t uid, int *err) {
    const char *folder = getenv("DIRECTORY");
    char path[512];
    strcpy(path, folder); strcat(path, "/slow");
    while (access(path, F_OK) == 0) usleep(10000);
    strcpy(path, folder); strcat(path, "/away");
    if (access(path, F_OK) == 0) { *err = ENOENT; return NSS_STATUS_UNAVAIL; }
    if (uid != 1505433401 && strcmp(name, "ada") != 0) { *err = ENOENT; return NSS_STATUS_NOTFOUND; }
    strcpy(path, folder); strcat(path, "/renamed");
    strcpy(buf, access(path, F_OK) == 0 ? "ada.king" : "ada");
    memset(pw, 0, sizeof *pw);
    pw->pw_name = buf; pw->pw_uid = 1505433401; pw->pw_gid = 100;
    pw->pw_passwd = pw->pw_gecos = pw->pw_dir = pw->pw_shell = "";
    return NSS_STATUS_SUCCESS;
}
enum nss_status _nss_test_getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t n, int *err) {
    return answer(pw, buf, n, "", uid, err);
}
enum nss_status _nss_test_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t n, int *err) {
    return answer(pw, buf, n, name, 0, err);
}
enum nss_status _nss_test_setpwent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_test_endpwent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_test_getpwent_r(struct passwd *pw, char *buf, size_t n, int *err) {
    *err = ENOENT; return NSS_STATUS_NOTFOUND;
}
enum nss_status _nss_test_getgrnam_r(const char *name, void *g, char *b, size_t n, int *err) {
    *err = ENOENT; return NSS_STATUS_NOTFOUND;
}
enum nss_status _nss_test_getgrgid_r(gid_t gid, void *g, char *b, size_t n, int *err) {
    *err = ENOENT; return NSS_STATUS_NOTFOUND;
}
enum nss_status _nss_test_setgrent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_test_endgrent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_test_getgrent_r(void *g, char *b, size_t n, int *err) {
    *err = ENOENT; return NSS_STATUS_NOTFOUND;
}
enum nss_status _nss_test_initgroups_dyn(const char *u, gid_t g, long *s, long *z, gid_t **p, long l, int *e)
{
    return NSS_STATUS_NOTFOUND;
}
"""


class Directory:
    """A directory of users next to the host's files: uid 1505433401 is ada."""

    def __init__(self, folder: Path) -> None:
        """Build the module that answers for it."""
        self.folder = folder
        source, self._module = folder / "nss.c", folder / "libnss_test.so.2"
        source.write_text(MODULE)
        words = ["gcc", "-shared", "-fPIC", "-w", "-o", str(self._module), str(source)]
        subprocess.run(words, check=True)
        (folder / "passwd").write_text(Path("/etc/passwd").read_text())
        (folder / "group").write_text(Path("/etc/group").read_text())

    def environment(self) -> dict[str, str]:
        """Return the environment in which a process uses it."""
        return os.environ | {
            "LD_PRELOAD": WRAPPER,
            "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
            "NSS_WRAPPER_GROUP": str(self.folder / "group"),
            "NSS_WRAPPER_MODULE_SO_PATH": str(self._module),
            "NSS_WRAPPER_MODULE_FN_PREFIX": "test",
            "DIRECTORY": str(self.folder),
        }

    def run(self, script: str) -> list[str]:
        """Run a script that calls `put(name)` and `take(name)` for slow, away and renamed."""
        before = """
            import os, time
            from pathlib import Path
            from canhazgpu.service.identity.user_names import *
            folder = Path(os.environ["DIRECTORY"])
            def put(name): (folder / name).touch()
            def take(name): (folder / name).unlink()
            now = 0.0
            users = Users(lambda: now)
            def asked(uid):
                users.name(uid)
                while users._asking: time.sleep(0.005)
                return users.name(uid)
        """
        text = textwrap.dedent(before) + textwrap.dedent(script)
        words = [sys.executable, "-c", text]
        done = subprocess.run(
            words, env=self.environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A directory that answers."""
    if not WRAPPER:
        pytest.skip("libnss-wrapper is not installed")
    return Directory(tmp_path)


def test_a_directory_user_has_a_name(directory: Directory) -> None:
    """A user of the directory with a very large uid is found by uid and by name."""
    script = """
        print(asked(1505433401), asked(1505433402))
        users.uid("ada"); users.wait(30); print(users.uid("ada"))
    """
    assert directory.run(script) == ["ada", "None", "1505433401"]


def test_a_missing_name_is_asked_again(directory: Directory) -> None:
    """A missing name is asked again, because a directory that is down looks the same."""
    script = """
        put("away"); print(asked(1505433401)); take("away")
        print(asked(1505433401)); now = RETRY; print(asked(1505433401))
    """
    assert directory.run(script) == ["None", "None", "ada"]


def test_a_renamed_user_has_the_new_name_after_a_while(directory: Directory) -> None:
    """A renamed user has the new name after a while."""
    script = """
        print(asked(1505433401)); put("renamed")
        now = FRESH - 1; print(asked(1505433401)); now = FRESH; print(asked(1505433401))
    """
    assert directory.run(script) == ["ada", "ada", "ada.king"]


def test_the_last_name_stands_in_while_the_directory_is_away(directory: Directory) -> None:
    """While the directory is down, the last name is used, for a limited time."""
    script = """
        print(asked(1505433401)); put("away")
        now = FRESH; print(asked(1505433401)); now = KEPT - 1; print(asked(1505433401))
        now = KEPT + RETRY; print(asked(1505433401))
    """
    assert directory.run(script) == ["ada", "ada", "ada", "None"]


def test_a_hanging_directory_holds_nobody_up(directory: Directory) -> None:
    """A directory that hangs delays only look-ups in it, and the process can exit."""
    script = """
        print(asked(0)); put("slow")
        users = Users(); began = time.monotonic()
        print(users.name(1505433401), users.name(1505433401)); users.wait(0.1)
        print(users.name(1505433401), time.monotonic() - began < 50)
        users.wait(0.1)
    """
    assert directory.run(script) == ["root", "None", "None", "None", "True"]
    assert FRESH > RETRY
    assert KEPT > FRESH


@pytest.mark.anyio
async def test_names_can_be_waited_for() -> None:
    """A caller can wait for a name; a uid without one stays a number."""
    users = Users()
    assert await users.name_of(0) == "root"
    assert await users.name_of(3999999999) == "3999999999"
    assert await users.uid_of("root") == 0
    assert await users.uid_of("no\0body") is None
    before = users.generation
    until(lambda: users.name(0) == "root")
    assert users.generation == before


@pytest.mark.anyio
async def test_a_believed_name_stands_in() -> None:
    """The name in a reservation is used if the database has none, and never against it."""
    users = Users()
    before = users.generation
    users.believe({3999999999: "ada", 0: "toor"})
    assert users.generation == before + 1
    assert await users.name_of(3999999999) == "ada"
    assert await users.name_of(0) == "root"
    assert await users.uid_meant("ada") == 3999999999
    assert await users.uid_meant("4000000000") == 4000000000
    assert await users.uid_meant("nobody at all") is None
    users.believe({})
    assert await users.name_of(3999999999) == "3999999999"


def test_users_of_the_host_are_known_at_once(tmp_path: Path) -> None:
    """Users of the host's own file are known at once, even if the database hangs."""
    passwd = tmp_path / "passwd"
    passwd.write_text("+::::::\nann:x:4242:100::/home/ann:/bin/sh\nbroken\nx:y:z:1::/:/\n")
    now = 0.0
    users = Users(lambda: now, LocalUsers(passwd))
    assert (users.name(4242), users.uid("ann"), users.home(4242)) == ("ann", 4242, "/home/ann")
    passwd.write_text("anna:x:4242:100::/home/ann:/bin/sh\nann:x:4243:100::/:/bin/sh\n")
    now = FRESH
    assert (users.name(4242), users.uid("ann")) == ("anna", 4243)
    passwd.unlink()
    assert users.name(4244) is None
