"""A user who changes reservations in a loop is stopped on one line."""

from pathlib import Path

from support.daemon import Daemon, gpu
from support.exit_codes import code_of
from support.people import Person

MOST = 12


def events(host: Daemon) -> int:
    """Return the number of events so far."""
    count: int = host.redis().xlen("canhazgpu:{testhost}:events")
    return count


def test_a_loop_is_stopped(folder: Path, people: list[Person]) -> None:
    """After so many changes nothing more is written; giving back is possible, and others are not concerned.

    What is refused anyway, because no GPU is free, does not count.
    """
    bob, alice = people
    host = Daemon(folder, f"[limits]\nchanges_per_hour = {MOST}\n")
    host.place(gpu(0), gpu(1))
    host.start()
    try:
        for _ in range(MOST):
            assert host.run("reserve", "--gpu-ids", "0", person=alice).returncode == 0
            refused = host.run("reserve", "--gpu-ids", "0", person=bob)
            assert refused.stderr.startswith("Error: Not available: ")
            assert host.run("release", person=alice).returncode == 0
        before = events(host)
        for words in (["reserve"], ["run", "--", "true"], ["extend"], ["disown"]):
            refused = host.run(*words, person=alice)
            assert refused.returncode == code_of(words, 1), words
            assert refused.stderr.startswith(
                f"Error: you have reached your limit of {MOST} changes per hour (try again in "
            ), refused.stderr
            assert refused.stderr.count("\n") == 1
        assert events(host) == before
        assert host.run("reserve", "--gpus", "1", person=bob).returncode == 0
        for _ in range(MOST - 1):
            assert host.run("extend", "--duration", "1s", person=bob).returncode == 0
        assert "changes per hour" in host.run("extend", person=bob).stderr
        assert host.run("release", person=bob).returncode == 0
        for _ in range(MOST + 1):
            assert host.run("reserve").returncode == 0
            assert host.run("release").returncode == 0
    finally:
        host.stop()
