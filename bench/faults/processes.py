"""Faults of processes: killed, or stopped."""

import signal
import time
from collections.abc import Mapping
from typing import ClassVar

from bench.faults.cell import Cell, Red
from bench.faults.fault import Fault
from bench.faults.oracle import UNHEARD, WORDS

DIED = (
    "a service that dies at that moment cannot release reservations for which it could not send the response"
)


class DaemonKilled(Fault):
    """Signal 9 for the daemon; its Redis ends with it."""

    name = "daemon killed"
    promise = "commands name the remedy; after a restart, all acknowledged changes are in place"
    excuses: ClassVar[Mapping[str, str]] = {UNHEARD: DIED}

    def strike(self, cell: Cell) -> None:
        """Kill it."""
        cell.host.kill_daemon()

    def hold(self, cell: Cell) -> None:
        """See what commands say."""
        done = cell.look("status")
        if done.status == 0 or "serve" not in done.error:
            cell.oracle.fail(WORDS, f"status without a daemon: {done}")

    def lift(self, cell: Cell) -> None:
        """Start it."""
        cell.host.start()


class WorkerKilled(Fault):
    """Signal 9 for the process of the workers."""

    name = "worker killed"
    promise = "reservations and detection are not affected; notices and the log continue where they stopped"
    split = True

    def strike(self, cell: Cell) -> None:
        """Kill it."""
        if cell.host.worker:
            cell.host.worker.kill()
            cell.host.worker.wait()

    def lift(self, cell: Cell) -> None:
        """Start it, as systemd does."""
        cell.host.start_worker()


class RedisKilled(Fault):
    """Signal 9 for Redis; the daemon starts it again."""

    name = "Redis killed"
    promise = "nothing acknowledged is lost; it is back within seconds"

    def strike(self, cell: Cell) -> None:
        """Kill it."""
        redis = cell.host.redis_process()
        if redis is None:
            raise Red("there is no Redis to kill")
        redis.kill()


class RedisStopped(Fault):
    """SIGSTOP for Redis, for 30 seconds."""

    name = "Redis stopped 30 s"
    promise = (
        "`status` shows the last known state, and changes are refused; both name the process and the remedy"
    )
    seconds = 30.0

    def strike(self, cell: Cell) -> None:
        """Stop it."""
        self.redis = cell.host.redis_process()
        if self.redis is None:
            raise Red("there is no Redis to stop")
        self.redis.send_signal(signal.SIGSTOP)
        self.over = time.monotonic() + self.seconds

    def hold(self, cell: Cell) -> None:
        """See what is said; let it last."""
        cell.until(lambda: cell.look("status").error, 15, "a word about Redis")
        said = [cell.look("status"), cell.look("reserve", "--nonblock")]
        if not all("is stopped" in one.error for one in said):
            cell.oracle.fail(WORDS, f"Redis is stopped, and it is said: {[one.error for one in said]}")
        time.sleep(max(0.0, self.over - time.monotonic()))

    def lift(self, cell: Cell) -> None:
        """Let it go on."""
        del cell
        if self.redis:
            self.redis.send_signal(signal.SIGCONT)
