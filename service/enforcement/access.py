"""The permissions of a device file: its owner, its mode and its POSIX ACL, read and written as one value."""

import errno
import os
import stat
import struct
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

XATTR = "system.posix_acl_access"
VERSION = struct.Struct("<I")  # <linux/posix_acl_xattr.h>
ENTRY = struct.Struct("<HHI")  # Tag, permissions, id.
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF
OPEN, CLOSED = 6, 0  # The driver needs both reading and writing.
Entry = tuple[int, int, int]


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The permissions of one file. `acl` is as the kernel has it, None if the mode says everything."""

    uid: int
    mode: int
    acl: bytes | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of the ACL, or those that the mode stands for."""
        return tuple(ENTRY.iter_unpack(self.acl[VERSION.size :])) if self.acl else _entries_of(self.mode)

    @property
    def is_open_to_all(self) -> bool:
        """Whether a user who is not named can open the file."""
        return any(tag == OTHER and permissions & OPEN for tag, permissions, _ in self.entries)

    @property
    def is_enforced(self) -> bool:
        """Whether only the owner and those named can open the file, as `only_for` leaves it."""
        said = {tag: permissions for tag, permissions, name in self.entries if name == NO_ID}
        return said == {USER_OBJ: OPEN, GROUP_OBJ: CLOSED, MASK: OPEN, OTHER: CLOSED}

    def named(self, kind: int) -> list[int]:
        """Return the ids of the users (USER) or the groups (GROUP) that are named and can open the file."""
        return [name for tag, permissions, name in self.entries if tag == kind and permissions & OPEN]


def only_for(uids: Iterable[int], gids: Iterable[int]) -> Access:
    """Return the permissions with which root and these users and groups can open a file, and nobody else.

    The group of the file is not among them. The mode is 0660, because its group bits are the mask.
    """
    entries = [
        (USER_OBJ, OPEN, NO_ID),
        *((USER, OPEN, uid) for uid in sorted({*uids} - {0})),
        (GROUP_OBJ, CLOSED, NO_ID),
        *((GROUP, OPEN, gid) for gid in sorted({*gids})),
        (MASK, OPEN, NO_ID),
        (OTHER, CLOSED, NO_ID),
    ]
    return Access(uid=0, mode=0o660, acl=_packed(entries))


def read_access(path: Path) -> Access:
    """Return the permissions of a device file. Raises OSError, also if it is something else."""
    found = _stat(path)
    try:
        acl = os.getxattr(path, XATTR, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        acl = None
    return Access(uid=found.st_uid, mode=stat.S_IMODE(found.st_mode), acl=acl)


def write_access(path: Path, access: Access) -> None:
    """Give a file these permissions. Raises OSError.

    The mode and the ACL change in one step, so the file is never open to a third user in between.
    """
    if _stat(path).st_uid != access.uid:
        os.chown(path, access.uid, -1, follow_symlinks=False)
    acl = access.acl or _packed(_entries_of(access.mode))  # The kernel stores this as the mode alone.
    os.setxattr(path, XATTR, acl, follow_symlinks=False)


def _stat(path: Path) -> os.stat_result:
    found = path.lstat()
    if not stat.S_ISCHR(found.st_mode):
        raise OSError(errno.ENODEV, "is not a device file", str(path))
    return found


def _entries_of(mode: int) -> tuple[Entry, ...]:
    return (
        (USER_OBJ, mode >> 6 & 7, NO_ID),
        (GROUP_OBJ, mode >> 3 & 7, NO_ID),
        (OTHER, mode & 7, NO_ID),
    )


def _packed(entries: Collection[Entry]) -> bytes:
    return VERSION.pack(2) + b"".join(ENTRY.pack(*entry) for entry in entries)
