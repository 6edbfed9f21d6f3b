"""One node of a real Slurm with a service, for all tests of a run."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.daemon import Daemon, until
from support.people import Person
from support.slurm import GPUS, Slurm, cards, slurm

SETTINGS = '[slurm]\nwait = "4s"\njobs_dir = "{folder}/jobs"\n'


@pytest.fixture(scope="session")
def cluster() -> Iterator[Slurm]:
    """A cluster of one node with four GPUs, whose device files count the other way round."""
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chg-"))) for _ in range(2)]
        for folder in folders:
            folder.chmod(0o755)
        daemon = Daemon(folders[0], SETTINGS.format(folder=folders[0]))
        daemon.place(*cards())
        stack.callback(daemon.stop)
        daemon.start()
        until(lambda: daemon.status().count("AVAILABLE") == GPUS)
        yield stack.enter_context(slurm(folders[1], daemon))


@pytest.fixture
def node(cluster: Slurm) -> Iterator[Slurm]:
    """The same, with no job and nothing reserved in the end."""
    yield cluster
    cluster.clear()
    if cluster.daemon.process is None:  # The test failed.
        cluster.daemon.start()
    cluster.daemon.run("admin", "release", "--all")
    cluster.daemon.place(*cards())
    until(lambda: cluster.daemon.status().count("AVAILABLE") == GPUS)


@pytest.fixture(scope="session")
def persons() -> Iterator[list[Person]]:
    """Four users who submit jobs."""
    made = [Person() for _ in range(4)]
    yield made
    for person in made:
        person.remove()
