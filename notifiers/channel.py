"""What a notifier is: one way to reach people. `docs/notifiers.md` shows how a site adds its own."""

from collections.abc import Sequence
from typing import Protocol

from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.outcome import Outcome


class Channel(Protocol):
    """One way to reach people. Nothing here blocks the loop; who must wait, waits in a thread.

    `name` is how steps name it, and its consumer group.
    """

    name: str

    async def recipients(self, notice: Notice) -> list[str]:
        """Return who this notice is for on this channel; nobody: the next step is brought forward."""

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> Sequence[Outcome]:
        """Try to reach them, within two minutes; `first` is the first notice of the episode that reached any.

        One Outcome for each, or for each place of theirs, such as a terminal. What may be tried again
        is `retry`. An exception is `failed` for everybody.
        """


def goes_by(notice: Notice, name: str) -> bool:
    """Tell whether a notice is for the channel `name`: `webhook` stands for `webhook:chat` too."""
    if notice.channel:
        return notice.channel == name
    return not notice.channels or name in notice.channels or name.partition(":")[0] in notice.channels
