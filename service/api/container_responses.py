"""Answers to container runtimes."""

from msgspec import Struct


class NarrowedResponse(Struct, kw_only=True):
    """The GPUs that a container gets instead of all: their UUIDs, and the numbers of their device files."""

    uuids: list[str]
    devices: list[int]


class ContainerResponse(Struct, kw_only=True):
    """Whether a container may start on its `gpus`. `user`: who is proven to have started it, or null.

    `reason` is null if that user has reserved them. `allowed` is false only if the mode is `enforce`.
    """

    mode: str
    allowed: bool
    user: str | None
    gpus: list[int]
    only: NarrowedResponse | None
    reason: str | None
    remedy: str | None
