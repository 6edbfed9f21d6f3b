"""A daemon without free file descriptors keeps running, logs it once, and recovers."""

import resource
import subprocess
import time

from support.daemon import COMMAND, Daemon, until


def test_a_daemon_without_descriptors_says_so_once(host: Daemon) -> None:
    """The log has no flood of tracebacks, and waiting clients are answered in the end."""
    assert host.process is not None
    pid = host.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # As many as it has for good: others may be closed while this is set.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        command = subprocess.Popen(
            [*COMMAND, "status"], env=host.environment, stdout=subprocess.PIPE, text=True
        )
        until(lambda: "connections_not_accepted" in host.log.read_text())
        time.sleep(2.5)  # It tries again each second.
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert command.communicate(timeout=60)[0].startswith("GPU 0: ")
    said = host.log.read_text()
    assert "Too many open files" in said
    assert said.count("connections_not_accepted") == 1
    assert "Traceback" not in said
