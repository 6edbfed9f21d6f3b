"""The interface of channels. `docs/notifiers.md` shows how to add one."""

from collections.abc import Sequence
from typing import Protocol

from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.outcome import Outcome


class Channel(Protocol):
    """One way to reach people. Its methods must not block the event loop; use a thread for blocking calls.

    `name` is used in the steps of the settings, and as the name of its consumer group.
    """

    name: str

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the recipients on this channel. If there are none, the next step is brought forward."""

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> Sequence[Outcome]:
        """Try to reach the recipients within two minutes. `first`: the episode's first notice that arrived.

        Return one Outcome for each recipient, or for each of their terminals. Outcomes with `retry` are tried
        again. An exception counts as `failed` for everybody.
        """


def is_for_channel(notice: Notice, name: str) -> bool:
    """Return whether a notice is for the channel `name`; `webhook` includes `webhook:chat`."""
    if notice.channel:
        return notice.channel == name
    return not notice.channels or name in notice.channels or name.partition(":")[0] in notice.channels
