"""Control groups of this host for tests, as a systemd host has them; several test runs may share them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = [
    path
    for path in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    if os.access(f"{path}/cgroup.procs", os.W_OK)
]
needs_cgroups = pytest.mark.skipif(not ROOTS, reason="this host has no cgroups of its own")


def container_name() -> str:
    """Return the name of a Docker container's scope that nobody else uses."""
    return f"docker-{os.urandom(32).hex()}.scope"


@contextlib.contextmanager
def control_group(name: str) -> Iterator[Path]:
    """Make a control group, `name` relative to the root; what is in it at the end moves to the root."""
    root = Path(ROOTS[0])
    group = root / name
    while True:  # Another test run may remove the parents meanwhile: it made them.
        with contextlib.suppress(FileNotFoundError):
            group.mkdir(parents=True, exist_ok=True)
            break
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (root / "cgroup.procs").write_text(pid)
        for one in (group, *group.parents[: len(group.relative_to(root).parts) - 1]):
            with contextlib.suppress(OSError):  # Somebody else is in it.
                one.rmdir()
