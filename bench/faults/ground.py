"""Faults of the ground a service stands on: disk, driver, clock, descriptors, mail server."""

import resource
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from bench.faults.cell import Cell
from bench.faults.fault import Fault
from bench.faults.oracle import DELAYED, ENDED, UNHEARD, WORDS
from bench.faults.processes import DIED

HOUR = 3600
PAUSE = 2.0  # Seconds that a fault lasts after it was looked at.


class DiskFull(Fault):
    """No byte is left where the state and the audit log are."""

    name = "disk full"
    promise = "`status` shows the last known state, and changes are refused, with the reason; the log waits"
    disk = "tmpfs"

    def strike(self, cell: Cell) -> None:
        """Take all the room, also what Redis gives back."""
        self.over = threading.Event()
        self.path = cell.host.disk / "filler"

        def fill() -> None:
            with self.path.open("wb", buffering=0) as filler:
                while not self.over.wait(0.005):
                    with suppress(OSError):
                        while True:
                            filler.write(b"x" * 512)

        self.filler = threading.Thread(target=fill)
        self.filler.start()

    def hold(self, cell: Cell) -> None:
        """See that the reason is named: somebody must try to change something first."""

        def refused() -> bool:
            return "no space left" in cell.look("extend", "--duration", "1m", person=cell.owner).error

        cell.until(refused, 30, "the word that no space is left")
        cell.until(lambda: "no space left" in cell.look("status").error, 20, "the same word of status")

    def lift(self, cell: Cell) -> None:
        """Make room."""
        del cell
        self.over.set()
        self.filler.join()
        self.path.unlink()


class DirectoryReadOnly(Fault):
    """The file system of the state and of the audit log has an error, and becomes read-only."""

    name = "state directory read-only"
    promise = "`status` shows the last known state, and changes are refused; both give the reason"
    disk = "ext4"
    excuses: ClassVar[Mapping[str, str]] = {UNHEARD: DIED}

    def strike(self, cell: Cell) -> None:
        """Let the file system find an error."""
        device = _output("findmnt", "-no", "SOURCE", str(cell.host.disk))
        trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
        trigger.write_text("1")

    def hold(self, cell: Cell) -> None:
        """See that the reason is named."""

        def refused() -> bool:
            done = cell.look("extend", "--duration", "1m", person=cell.owner)
            return "ead-only" in done.error

        cell.until(refused, 30, "the word that it is read-only")
        cell.until(lambda: "ead-only" in cell.look("status").error, 20, "the same word of status")

    def lift(self, cell: Cell) -> None:
        """Stop the service, check the file system, mount it, start."""
        cell.host.end()
        image, place = str(cell.folder / "repaired"), str(cell.host.disk)
        subprocess.run(["umount", place], check=True)
        # A copy: while another mount namespace has the old one, it would be mounted again as it is.
        shutil.copy(cell.folder / "image", image)
        subprocess.run(["e2fsck", "-fy", image], check=False, capture_output=True)
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, place], check=True)
        cell.host.start()


class DriverFails(Fault):
    """NVML answers with an error for every second card, and can read nothing of the others."""

    name = "NVML error"
    promise = "the failed GPUs are shown with the driver's reason, are not granted, and keep their holders"

    def strike(self, cell: Cell) -> None:
        """Let it fail."""
        cell.driver.fail(cell.driver.uuids[::2], "handle 15")

    def hold(self, cell: Cell) -> None:
        """See what is said."""
        cell.until(lambda: "ERROR (GPU is lost" in cell.look("status").out, 15, "the driver's reason")
        cell.look("reserve", "--gpus", "5", "--nonblock")
        time.sleep(PAUSE)

    def lift(self, cell: Cell) -> None:
        """Let it answer."""
        cell.driver.fail([], "")


class DriverHangs(Fault):
    """NVML does not answer."""

    name = "NVML hang"
    promise = (
        "nothing is granted on the basis of an old scan; the reason and the remedy are shown; "
        "GPUs can be released"
    )
    patience = 60.0

    def strike(self, cell: Cell) -> None:
        """Let it hang."""
        cell.driver.fail(cell.driver.uuids, "hang 600")

    def hold(self, cell: Cell) -> None:
        """See what is said."""

        def told() -> bool:
            done = cell.look("status")
            return "no answer from the driver" in done.out + done.error

        cell.until(told, 20, "the word that the driver does not answer")
        cell.look("reserve", "--nonblock")

    def lift(self, cell: Cell) -> None:
        """Let it answer."""
        cell.driver.fail([], "")


class DriverRenumbers(Fault):
    """The driver lists the cards in the opposite order."""

    name = "driver renumbers"
    promise = "all state follows the cards to their new indices"

    def strike(self, cell: Cell) -> None:
        """Renumber them."""
        cell.driver.renumber()


class ClockForward(Fault):
    """The clock of the daemon, its Redis and all commands is set an hour forward, and stays so."""

    name = "clock +1 h"
    promise = "no reservation that has more than an hour left ends; everything continues"
    shift = HOUR

    def environment(self, cell_folder: str, parts: Mapping[str, str]) -> dict[str, str]:
        """Let every process look at a clock that can be set."""
        self.file = Path(cell_folder) / "clock"
        self.file.write_bytes(struct.pack("q", 0))
        return {"LD_PRELOAD": parts["clock"], "CLOCK_SHIFT": str(self.file)}

    def strike(self, cell: Cell) -> None:
        """Set it."""
        del cell
        with self.file.open("r+b", buffering=0) as clock:
            clock.write(struct.pack("q", self.shift))


class ClockBack(ClockForward):
    """The same clock is set an hour back, and stays so."""

    name = "clock -1 h"
    promise = "everything continues; whatever is due at a certain time happens an hour later"
    excuses: ClassVar[Mapping[str, str]] = {
        DELAYED: "scheduled actions wait for their time: the next attempt to send a notice, or its next "
        "step, comes up to an hour later; later events are reported at once"
    }
    shift = -HOUR


class DescriptorsExhausted(Fault):
    """The daemon has as many descriptors as it may have."""

    name = "descriptors exhausted"
    promise = (
        "a process that cannot be examined is not assumed to have ended; everything continues "
        "once descriptors are free"
    )
    excuses: ClassVar[Mapping[str, str]] = {
        WORDS: "a command may wait a minute for its connection to be accepted, or report an internal error",
        ENDED: "if the daemon cannot continue, it exits, and systemd restarts it",
        UNHEARD: DIED,
    }

    def strike(self, cell: Cell) -> None:
        """Let it have no more than now."""
        if not cell.host.daemon:
            return
        self.pid = cell.host.daemon.pid
        self.before = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        taken = {int(one.name) for one in Path(f"/proc/{self.pid}/fd").iterdir()}
        number = min(set(range(len(taken) + 1)) - taken)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (number, self.before[1]))

    def hold(self, cell: Cell) -> None:
        """See what is said."""
        cell.look("status")
        time.sleep(PAUSE)

    def lift(self, cell: Cell) -> None:
        """Let it have more."""
        del cell
        with suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, self.before)


class MailServerDown(Fault):
    """Nobody listens where mail is to be sent."""

    name = "mail server down"
    promise = "everything else continues; mail is sent once the server is back"

    def strike(self, cell: Cell) -> None:
        """Close it."""
        cell.mailbox.close()

    def hold(self, cell: Cell) -> None:
        """Let somebody be told meanwhile."""
        del cell
        time.sleep(PAUSE)

    def lift(self, cell: Cell) -> None:
        """Open it."""
        cell.mailbox.open()


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
