"""A user directory beside the host's files; it can be slow or unavailable, and its users can change."""

import os
import subprocess
from glob import glob
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon
from support.people import Person

WRAPPER = next(iter(glob("/usr/lib/*/libnss_wrapper.so")), "")  # noqa: PTH207 - two levels, no pattern of Path's
HANG = 15  # Seconds that each look-up takes while `slow` is there; then it fails.
GROUPS = "".join(
    f"enum nss_status _nss_test_{name} {{ return hang(e); }}\n"
    for name in (
        "getgrnam_r(const char *c, void *g, char *b, size_t n, int *e)",
        "getgrgid_r(gid_t i, void *g, char *b, size_t n, int *e)",
        "getgrent_r(void *g, char *b, size_t n, int *e)",
        "getpwent_r(void *p, char *b, size_t n, int *e)",
        "initgroups_dyn(const char *u, gid_t g, long *s, long *z, gid_t **p, long l, int *e)",
    )
)
MODULE = f"""
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int there(const char *name) {{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("DIRECTORY"), name);
    return access(path, F_OK) == 0;
}}
static enum nss_status hang(int *err) {{
    int slow = there("slow");
    for (int i = 0; i < {HANG * 100} && there("slow"); i++) usleep(10000);
    *err = ENOENT; return slow || there("away") ? NSS_STATUS_UNAVAIL : NSS_STATUS_NOTFOUND;
}}
static enum nss_status answer(struct passwd *pw, char *buf, size_t n, const char *name, long uid, int *err) {{
    char path[512], found[128];
    long number;
    if (there("slow") || there("away")) return hang(err);
    snprintf(path, sizeof path, "%s/users", getenv("DIRECTORY"));
    FILE *file = fopen(path, "r");
    *err = ENOENT;
    while (file && fscanf(file, "%127s %ld", found, &number) == 2)
        if (name ? strcmp(name, found) == 0 : number == uid) {{
            fclose(file);
            strcpy(buf, found);
            memset(pw, 0, sizeof *pw);
            pw->pw_name = buf; pw->pw_uid = number; pw->pw_gid = number;
            pw->pw_passwd = pw->pw_gecos = ""; pw->pw_dir = pw->pw_shell = "/";
            return NSS_STATUS_SUCCESS;
        }}
    if (file) fclose(file);
    return NSS_STATUS_NOTFOUND;
}}
enum nss_status _nss_test_getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t n, int *err) {{
    return answer(pw, buf, n, 0, uid, err);
}}
enum nss_status _nss_test_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t n, int *err) {{
    return answer(pw, buf, n, name, 0, err);
}}
enum nss_status _nss_test_setpwent(void) {{ return NSS_STATUS_SUCCESS; }}
enum nss_status _nss_test_endpwent(void) {{ return NSS_STATUS_SUCCESS; }}
enum nss_status _nss_test_setgrent(void) {{ return NSS_STATUS_SUCCESS; }}
enum nss_status _nss_test_endgrent(void) {{ return NSS_STATUS_SUCCESS; }}
{GROUPS}
"""


class Directory:
    """Users of a directory: those of the host come from its files first, as in most nsswitch.conf."""

    def __init__(self, folder: Path, **users: int) -> None:
        """Build the module that answers; `users` are names and uids."""
        if not WRAPPER:
            pytest.skip("libnss-wrapper is not installed")
        self._folder = folder / "directory"
        self._folder.mkdir()
        self._folder.chmod(0o755)
        self._module = self._folder / "libnss_test.so.2"
        (self._folder / "nss.c").write_text(MODULE)
        words = ["gcc", "-shared", "-fPIC", "-w", "-o", str(self._module), str(self._folder / "nss.c")]
        subprocess.run(words, check=True)
        for name in ("passwd", "group"):
            (self._folder / name).write_text(Path("/etc", name).read_text())
        self.users(**users)

    def users(self, **users: int) -> None:
        """Replace the users."""
        new = self._folder / "users.new"
        new.write_text("".join(f"{name} {uid}\n" for name, uid in users.items()))
        new.rename(self._folder / "users")

    def put(self, state: str) -> None:
        """Make the directory `slow` or `away`."""
        (self._folder / state).touch()

    def take(self, state: str) -> None:
        """Make the directory available again."""
        (self._folder / state).unlink()

    @property
    def words(self) -> list[str]:
        """Return the words that let a program use the directory."""
        return [
            "env",
            f"LD_PRELOAD={WRAPPER}",
            f"NSS_WRAPPER_PASSWD={self._folder / 'passwd'}",
            f"NSS_WRAPPER_GROUP={self._folder / 'group'}",
            f"NSS_WRAPPER_MODULE_SO_PATH={self._module}",
            "NSS_WRAPPER_MODULE_FN_PREFIX=test",
            f"DIRECTORY={self._folder}",
        ]


class DirectoryDaemon(Daemon):
    """A service that uses the directory; commands do not."""

    directory: Directory
    more_environment: tuple[str, ...] = ()

    @property
    def serve(self) -> list[str]:
        """Return the command that starts the service."""
        return [*self.directory.words, *self.more_environment, *COMMAND]


class DirectoryPerson(Person):
    """A user of the directory, whom the host's files do not know."""

    def __init__(self, name: str, uid: int) -> None:
        """Set name and uid; needs root."""
        if os.geteuid() != 0:
            pytest.skip("processes of other users need root")
        self.name, self.uid, self.gid = name, uid, uid
        self._spawned = []

    def leave(self) -> None:
        """End what was started for them. Other processes with the uid are those of another test run."""
        for process in self._spawned:
            process.kill()
            process.wait()

    remove = leave
