"""Processes for tests of attribution: real ones, and a /proc and an /etc of a test's own."""

from pathlib import Path

from canhazgpu.events.gpu import ProcessReading, ProcessUse
from canhazgpu.service.identity.attribution import Attributor


def reading(pid: int, memory_mb: int | None = 100) -> ProcessReading:
    """A process as a provider sees it."""
    return ProcessReading(pid=pid, memory_mb=memory_mb)


def whose(pid: int, attributor: Attributor | None = None, memory_mb: int = 100) -> ProcessUse:
    """Return whose a process is once the names are known."""
    attributor = attributor or Attributor()
    attributor.attribute(reading(pid))
    attributor.users.wait(30)
    found = attributor.attribute(reading(pid, memory_mb))
    assert found
    return found


class Host:
    """A /proc and an /etc of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.etc = folder / "proc", folder / "etc"
        self.proc.mkdir()
        self.etc.mkdir()
        self.write("login.defs", "# UID_MAX 5\nUID_MIN 1000\nUID_MAX 60000\n")

    def write(self, name: str, text: str) -> None:
        """Write a file of /etc."""
        (self.etc / name).write_text(text)

    def put(
        self,
        pid: int,
        uid: int,
        cgroup: str = "0::/",
        start: int = 5,
        name: str = "a) R (b",
        login: str = "",
        uid_map: str = "0 0 4294967295",
        parent: int = 1,
        session: int = 0,
    ) -> None:
        """Make or replace a process; what is between its name's parentheses is its own affair."""
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_text(f"{pid} ({name}) S {parent} 0 {session} " + "0 " * 15 + f"{start} 0 0\n")
        (folder / "comm").write_text(name + "\n")
        (folder / "status").write_text(f"Name:\t{name}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        (folder / "uid_map").write_text(uid_map)
        (folder / "cgroup").write_text(cgroup + "\n")
        (folder / "loginuid").write_text(login or "4294967295")

    def give(self, pid: int, **files: str | bytes) -> None:
        """Write more of what /proc has of a process, such as `environ`."""
        (self.proc / str(pid)).mkdir(exist_ok=True)
        for name, text in files.items():
            (self.proc / str(pid) / name).write_bytes(text.encode() if isinstance(text, str) else text)

    def attributor(self) -> Attributor:
        """Start over on this host."""
        return Attributor(self.proc, self.etc)

    def whose(self, pid: int) -> ProcessUse:
        """Return whose a process is."""
        return whose(pid, self.attributor())
