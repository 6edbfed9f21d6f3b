"""GPUs as the JSON of `status` describes them."""

from typing import Any

from canhazgpu.events.spelling.gpu_numbers import card_of, spell_gpu


def described(index: int, **facts: Any) -> dict[str, Any]:
    """A free GPU, or as it is said."""
    return {
        "gpu_id": index,
        "number": spell_gpu(index),
        "parent": card_of(index),
        "profile": None,
        "uuid": f"GPU-{index}",
        "name": "NVIDIA H100 80GB HBM3",
        "vendor": "nvidia",
        "status": "AVAILABLE",
        "reason": None,
        "remedy": None,
        "users": [],
        "memory_mb": 45,
        "memory_used_mb": 45,
        "memory_total_mb": 81559,
        "utilization_percent": 0,
        "temperature_c": 31,
        "in_use": False,
        "processes": [],
        "others": [],
        "presumed": [],
        "reservation": None,
        "drained": None,
        "violations": [],
        "silenced_s": None,
        "mig": [],
        "instances": [],
        "last_released": None,
        "released_s": None,
        "scanned_at": "2026-11-30T10:00:00.000Z",
        "stale_s": None,
        "stale_reason": None,
        **facts,
    }


def process(pid: int, user: str, name: str = "python3", memory_mb: int | None = 1024) -> dict[str, Any]:
    """A process on a GPU."""
    return {
        "pid": pid,
        "name": name,
        "user": user,
        "memory_mb": memory_mb,
        "container": None,
        "evidence": "uid",
        "hint": None,
    }


def held(user: str, *gpus: int, **facts: Any) -> dict[str, Any]:
    """A manual reservation."""
    return {
        "id": f"r-{user}-{gpus[0] if gpus else 0}",
        "kind": "manual",
        "user": user,
        "label": None,
        "note": None,
        "gpus": list(gpus),
        "pid": None,
        "started": "2026-11-30T09:00:00.000Z",
        "for_s": 3600,
        "expires": "2026-11-30T17:00:00.000Z",
        "expires_in_s": 25200,
        "until": "2026-11-30T17:00:00.000Z",
        "last_heartbeat_s": None,
        "lingering_s": None,
        "idle_s": None,
        **facts,
    }


def reserved(index: int, user: str, **facts: Any) -> dict[str, Any]:
    """A GPU that somebody holds."""
    reservation = held(user, index, **facts.pop("reservation", {}))
    return described(index, status="IN_USE", reservation=reservation, **facts)


def unreserved(index: int, *users: str, **facts: Any) -> dict[str, Any]:
    """A GPU that these users use without a reservation."""
    found = [process(4242 + number, user) for number, user in enumerate(users)]
    values = {"memory_mb": 1024 * len(users), "memory_used_mb": 1024 * len(users), **facts}
    return described(
        index, status="UNRESERVED", users=sorted(users), in_use=True, **{"processes": found, **values}
    )
