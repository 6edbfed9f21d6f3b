"""When hints are looked for.

A scan never waits long for them, and they are looked for again when they may have changed.
"""

import os
import socket
import time

import pytest
from support.daemon import until
from support.docker_socket import sending
from support.hint_lab import A, HintLab

from canhazgpu.service.identity import container_hints
from canhazgpu.service.identity.container_hints import FRESH, RETRY

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may make users")


def hang(lab: HintLab) -> None:
    """Let Docker accept a request and not answer."""

    def wait(_: socket.socket) -> None:
        lab.docker.stopping.wait(60)

    lab.docker.answers[f"/containers/{A}/json"] = wait


def test_a_scan_waits_for_nothing(lab: HintLab) -> None:
    """A scan does not wait for a Docker daemon that hangs; the hint is added later."""
    hang(lab)
    lab.put(0, "/home/{ada}")
    assert lab.look().hint is None
    lab.docker.stopping.set()  # It goes on now: the scan was over before.
    until(lambda: lab.look().hint)


@pytest.mark.anyio
async def test_the_first_scan_has_the_hint(lab: HintLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first scan waits for the hints of new processes, so that the next one need not correct it."""
    monkeypatch.setattr(container_hints, "PATIENCE", 60.0)
    began = time.monotonic()
    lab.put(0, "/home/{ada}")
    lab.look()
    await lab.attributor.settle()
    assert lab.look().hint
    assert not await lab.attributor.settle()
    assert time.monotonic() - began < 50  # It would have been waited for up to a minute.


@pytest.mark.anyio
async def test_what_hangs_delays_one_scan_only(lab: HintLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting many processes while Docker hangs delays one scan only."""
    monkeypatch.setattr(container_hints, "PATIENCE", 0.05)
    hang(lab)
    lab.put()
    lab.look()
    await lab.attributor.settle()
    monkeypatch.setattr(container_hints, "PATIENCE", 60.0)
    lab.put(start=6)
    lab.look()
    began = time.monotonic()
    await lab.attributor.settle()
    assert time.monotonic() - began < 50  # It would have been waited for up to a minute.


def test_what_did_not_answer_is_asked_again(lab: HintLab) -> None:
    """A source that did not answer is asked again, soon at first and then less often; results expire too."""
    lab.put()
    assert lab.hint() is None
    lab.docker.have(A, Labels={"canhazgpu.user": lab.ada.name})
    lab.now += RETRY - 1
    assert lab.hint() is None
    lab.now += 1
    assert lab.hint()
    assert lab.look().container
    lab.docker.have(A, Labels={"canhazgpu.user": lab.bob.name})
    lab.now += FRESH - 1
    assert lab.hint() == (lab.ada.name, f'container "train" has the label canhazgpu.user={lab.ada.name}')
    lab.now += 1
    assert lab.hint() == (lab.bob.name, f'container "train" has the label canhazgpu.user={lab.bob.name}')


def test_what_was_found_stands_while_docker_is_away(lab: HintLab) -> None:
    """A hint stays while the Docker daemon restarts."""
    lab.docker.have(A, Labels={"canhazgpu.user": lab.ada.name})
    lab.put(environ="USER={bob}")
    found = lab.hint()
    assert found
    lab.docker.answers[f"/containers/{A}/json"] = sending(b"")
    lab.now += FRESH
    assert lab.hint() == found
    lab.docker.have(A)
    lab.now += FRESH
    assert lab.hint() == (lab.bob.name, f"its environment has USER={lab.bob.name}")


def test_a_restart_keeps_what_was_found(lab: HintLab) -> None:
    """A service that is started anew uses the hints of the last scan until the sources answer."""
    lab.docker.have(A, Labels={"canhazgpu.user": lab.ada.name})
    lab.put(start=5)
    found = lab.settled()
    assert found.hint
    lab.docker.have(A, Labels={"canhazgpu.user": lab.bob.name})
    answers = lab.docker.answers[f"/containers/{A}/json"]
    hang(lab)
    lab.start()
    lab.attributor.remember([found])
    assert lab.look() == found
    lab.docker.answers[f"/containers/{A}/json"] = answers
    lab.start()
    lab.attributor.remember([found])
    assert lab.hint() == (lab.bob.name, f'container "train" has the label canhazgpu.user={lab.bob.name}')
    hang(lab)
    lab.start()
    lab.attributor.remember([found])
    lab.put(start=6)
    assert lab.look().hint is None


def test_another_process_by_that_pid_is_looked_at_anew(lab: HintLab) -> None:
    """A new process with the same pid is examined again, because its start differs."""
    lab.put(0, "/home/{ada}", start=5)
    assert lab.hint()
    lab.put(0, "/home/{bob}", start=6)
    seen = lab.look().hint
    assert seen is None or seen.user == lab.bob.name
    assert lab.hint() == (lab.bob.name, f"docker a1a1a1a1a1a1 has /home/{lab.bob.name} mounted")
