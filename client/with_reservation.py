"""Reservations for programs: `with reserve(gpus=2) as r:`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.client.reservations import Reservation, obtain


@contextmanager
def reserve(  # noqa: PLR0913 - each says one thing about the reservation
    gpus: int = 1,
    *,
    gpu_ids: Sequence[int | str] | None = None,
    duration: str | None = None,
    wait: bool | str = True,
    note: str | None = None,
    client: Client | None = None,
) -> Iterator[Reservation]:
    """Reserve GPUs for a `with` block, and release them at its end.

    `gpus` is the number of GPUs; `gpu_ids` names them instead, by index or by the beginning of a UUID.
    `wait` is True (wait as long as necessary), False (do not wait), or a maximum such as `"30m"`. `duration`
    (`"4h"`) limits the reservation in any case. Within the block, CUDA_VISIBLE_DEVICES and related variables
    are set in this process; a library that has read them before does not notice. Raises Refused, Unreachable
    and BadSettings, and TypeError if `gpu_ids` is a text.
    """
    if isinstance(gpu_ids, str):
        raise TypeError(f"gpu_ids is a list such as [0, 1], not {gpu_ids!r}")
    client = client or Client()
    body = {
        "kind": "manual",
        **({"gpus": list(gpu_ids)} if gpu_ids is not None else {"count": gpus}),
        **{name: value for name, value in {"duration": duration, "note": note}.items() if value is not None},
    }
    held = obtain(client, body, wait=wait)
    before = {name: os.environ.get(name) for name in held.environment}
    os.environ.update(held.environment)
    try:
        yield held
    except BaseException as error:
        _restore(before)
        try:
            held.release()
        except (Refused, Unreachable) as trouble:
            error.add_note(f"GPUs {held.gpus} are still reserved: {trouble}")
        raise
    _restore(before)
    held.release()


def _restore(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
