"""Identifies this machine independently of its host name, by its machine id and boot id."""

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

import msgspec

from canhazgpu.events.linux.processes import Process, open_process, start_time_of

MACHINE_ID, BOOT_ID = Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id")
# The machine id itself is not to be shown: what is shown is made from it and this, as
# sd_id128_get_machine_app_specific(3) does it.
APPLICATION = bytes.fromhex("7d1c3d2f5b0a4f6e9a3c6c1e8f24b05d")


class Machine(msgspec.Struct, frozen=True):
    """A service process on a machine. Cloned machines share the `id`, but not the boot id."""

    id: str
    boot: str
    process: Process

    @property
    def text(self) -> str:
        """The identity as stored in Redis."""
        return f"{self.boot_text} {self.process.pid}.{self.process.start}"

    @property
    def boot_text(self) -> str:
        """The part of `text` that all processes of this boot have in common."""
        return f"{self.id} {self.boot}"

    @classmethod
    def of(cls, text: str) -> "Machine | None":
        """Parse the result of `text`; return None for anything else."""
        with contextlib.suppress(ValueError):
            name, boot, process = text.split()
            pid, _, start = process.partition(".")
            return cls(name, boot, Process(int(pid), int(start)))
        return None

    def shares_boot(self, other: "Machine") -> bool:
        """Return whether both are of the same boot of the same machine."""
        return (self.id, self.boot) == (other.id, other.boot)

    def is_alive(self) -> bool:
        """Return whether this process of the current boot is alive; True if that is not known."""
        try:
            descriptor = open_process(self.process)
        except OSError:
            return True
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None


def this_machine(state_dir: Path) -> Machine:
    """Return the identity of this process. Raises OSError if `state_dir` can provide no id either."""
    start = start_time_of(os.getpid())
    return Machine(_machine_id(state_dir), boot_id(), Process(os.getpid(), start or 0))


def this_boot() -> str:
    """Return the machine, by its id in /etc if it has one, and its boot; nothing else changes it."""
    return f"{_own_id() or 'unnamed'} {boot_id()}"


def boot_id() -> str:
    """Return what identifies the current boot of this machine."""
    return _text(BOOT_ID).replace("-", "") or f"since-{_started()}"


def _own_id() -> str | None:
    text = _text(MACHINE_ID)
    with contextlib.suppress(ValueError):
        if len(identity := bytes.fromhex(text)) == 16 and any(identity):  # noqa: PLR2004 - 128 bits
            return application_id(identity)
    return None


def _machine_id(state_dir: Path) -> str:
    if identity := _own_id():
        return identity
    kept = state_dir / "machine-id"
    if not (text := _text(kept)):
        text = secrets.token_hex(16)
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        new = kept.with_suffix(".new")
        new.write_text(text + "\n")
        new.replace(kept)
    return text


def application_id(identity: bytes) -> str:
    """Return an id derived from the machine id, like `systemd-id128 machine-id --app-specific`."""
    digest = bytearray(hmac.digest(identity, APPLICATION, hashlib.sha256)[:16])
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    return digest.hex()


def _started() -> str:
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return line.split()[1]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
