"""GPUs as requests name them: by index, or by the beginning of a UUID. It never asks the driver."""

import re
from collections.abc import Mapping, Sequence

from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.sanitize import UUID_START
from canhazgpu.events.spelling.gpu_numbers import read_index, spell_gpu, without_parts
from canhazgpu.service.api.errors import Problem

SHOWN = 3  # UUIDs to list; the rest are counted.
LISTED = "`canhazgpu status --json` lists their UUIDs"


def indices(gpus: Sequence[int | str] | None, known: Mapping[int, GpuUsage]) -> tuple[int, ...] | None:
    """Return the indices sorted, without MIG instances of GPUs that are named too.

    Raises Problem if a name fits none or several, or one is named twice.
    """
    if gpus is None:
        return None
    found = [index_of(one, known) for one in gpus]
    if len(set(found)) != len(found):
        raise Problem(400, "bad-request", "a GPU is named twice", "name each GPU once")
    return without_parts(tuple(sorted(found)))


def uuids(gpus: Sequence[int | str] | None, known: Mapping[int, GpuUsage]) -> dict[int, str] | None:
    """Return the whole UUIDs of GPUs that are named by one, by index. Raises Problem as `indices` does.

    Scripts follow them: a scan may renumber the GPUs before the script runs.
    """
    named = [index_of(one, known) for one in gpus or () if isinstance(one, str)]
    return {index: known[index].uuid for index in named if index in known} or None


def index_of(name: int | str, known: Mapping[int, GpuUsage]) -> int:
    """Return the index of a GPU. Raises Problem if a name fits none or several."""
    if isinstance(name, int):
        return name
    if ":" in name:
        instance = read_index(name)
        if instance is None:
            raise Problem(400, "no-such-gpu", f"there is no GPU {name} on this host", LISTED)
        return instance
    fits = {
        index: gpu.uuid for index, gpu in known.items() if gpu.uuid.casefold().startswith(name.casefold())
    }
    if not fits:
        raise Problem(400, "no-such-gpu", f"no GPU of this host has a UUID that begins with {name}", LISTED)
    if len(fits) > 1:
        shown = ", ".join(f"{uuid} (GPU {spell_gpu(index)})" for index, uuid in list(fits.items())[:SHOWN])
        more = f" and {len(fits) - SHOWN} more" if len(fits) > SHOWN else ""
        detail = f"{name} is the beginning of {len(fits)} UUIDs: {shown}{more}"
        raise Problem(400, "ambiguous-gpu", detail, "give more characters of the UUID")
    return next(iter(fits))


def with_index(words: Mapping[str, str], known: Mapping[int, GpuUsage]) -> dict[str, str]:
    """Return the filters of a request, `gpu` as an index if it is the beginning of a UUID. Raises Problem."""
    if re.fullmatch(UUID_START, words.get("gpu", "")):
        return {**words, "gpu": str(index_of(words["gpu"], known))}
    return dict(words)
