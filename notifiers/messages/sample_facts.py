"""The facts in the sample notices: users, GPUs and times of a fictional host."""

from typing import Any

from canhazgpu.events.gpu import Container, Hint, ProcessUse
from canhazgpu.events.notices import Digest, DigestUser, Incident
from canhazgpu.events.reservations import Booking, Obstacle, Reservation
from canhazgpu.events.violations import Violation

HOST = "gpu-host-1"
CONTACT = "gpu-admins@example.com, room 214"
MODEL = "NVIDIA H100 80GB HBM3"
BEGAN = "2026-11-24T09:15:47.120Z"
LATER = "2026-11-24T09:40:02.000Z"
NOW = "2026-11-24T09:15:55.000Z"
EVENING = "2026-11-24T13:15:55.000Z"
ENDED = "2026-11-24T13:02:11.480Z"
BOX = "3f2a9c51d0b7" + "e4" * 26


def process(pid: int, name: str, memory_mb: int | None, **facts: Any) -> ProcessUse:
    """Return a process of the user bob."""
    values = {"user": "bob", "uid": 1001, "person": "bob", "evidence": "uid", "start": pid * 10, **facts}
    return ProcessUse(pid=pid, name=name, memory_mb=memory_mb, **values)


PYTHON, JUPYTER = process(12345, "python3", 768), process(67890, "jupyter", 256)
OTHER = process(78901, "vllm", 512)
INSIDE = process(
    23456, "python3", 4096, evidence="subuid", container=Container(runtime="podman", id=BOX, name="train")
)
AS_ROOT = process(34567, "nccl-tests", 2048, evidence="loginuid")
BOBS_HOME = Hint(user="bob", uid=1001, source="/home/bob is mounted in the container")
NOBODYS = process(45678, "python3", None, user="root", uid=0, person=None, evidence="unknown")
RANKS = tuple(
    tuple(process(20000 + gpu * 100 + rank, "torchrun", 9216) for rank in range(8)) for gpu in range(8)
)


def violation(number: int, gpu: int, *processes: ProcessUse, **facts: Any) -> Violation:
    """Return a violation of the user bob with the id `v{number}`."""
    memory = sum(one.memory_mb or 0 for one in processes)
    values = {
        "kind": "trespass" if facts.get("holder") else "unreserved",
        "gpu_uuid": f"GPU-{gpu:08d}",
        "gpu_name": MODEL,
        "key": "uid:1001",
        "user": "bob",
        "uid": 1001,
        "person": "bob",
        "evidence": processes[0].evidence if processes else "unknown",
        "since": BEGAN,
        "memory_mb": memory,
        "peak_memory_mb": memory + 1024,
        **facts,
    }
    return Violation(violation=f"v{number}", gpu=gpu, processes=processes, **values)


def closed(number: int, gpu: int, **facts: Any) -> Violation:
    """Return a violation that has ended."""
    values = {"closed": ENDED, "duration_s": 13584, "reason": "stopped", **facts}
    return violation(number, gpu, PYTHON, **values)


def reservation(**facts: Any) -> Reservation:
    """Return a reservation of the user alice, a manual one unless it has a `pid`."""
    values = {
        "kind": "run" if facts.get("pid") else "manual",
        "gpus": (1, 3),
        "started": "2026-11-24T05:30:55.000Z",
        **facts,
    }
    return Reservation(id="r1187", user="alice", uid=1002, **values)


def booking(**facts: Any) -> Booking:
    """Return a booking of the user alice."""
    values = {
        "count": 2,
        "begin": "2026-11-24T09:30:00.000Z",
        "end": "2026-11-24T13:30:00.000Z",
        "created": "2026-11-20T08:12:04.000Z",
        "note": "paper deadline",
        **facts,
    }
    return Booking(id="b1187", user="alice", uid=1002, **values)


OVER_TIME = Obstacle(gpu=2, why="held", users=("bob",), over=True)
DRAINED = Obstacle(gpu=3, why="drained")
SCANNER = Incident(
    subject="scanner",
    reason="the driver has not answered for 60 s",
    since="2026-11-24T09:14:10.000Z",
    remedy="Look for Xid errors in `dmesg`; restart the service when the driver answers again",
)
GPU = Incident(
    subject="gpu/3",
    reason="GPU is lost",
    since="2026-11-24T09:14:10.000Z",
    remedy="Reset the GPU, or restart the host",
)
CHANNEL = Incident(
    subject="channel/email",
    reason="451 4.3.0 Temporary lookup failure",
    since="2026-11-24T09:05:00.000Z",
    remedy="Look at the mail server's log",
)
DIGEST = Digest(
    since="2026-11-23T08:00:00.000Z",
    until="2026-11-24T08:00:00.000Z",
    users=(
        DigestUser(user="bob", violations=4, gpu_hours=11.27, open=1),
        DigestUser(user="carol", violations=1, gpu_hours=2.5, unreached=1),
        DigestUser(user="dave", violations=1, gpu_hours=0.04),
    ),
    repeaters=("bob",),
    idle=(
        reservation(idle="2026-11-23T14:02:31.000Z"),
        reservation(pid=4711, gpus=(6,), idle="2026-11-24T01:10:00.000Z"),
    ),
    failures={"email": 3, "webhook:chat": 1},
    incidents=(
        Incident(
            subject="channel/email",
            reason="451 4.3.0 Temporary lookup failure",
            since="2026-11-23T20:05:00.000Z",
            ended="2026-11-23T22:40:00.000Z",
        ),
        GPU,
    ),
)
