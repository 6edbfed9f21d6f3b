"""Finds out who started a container: from a token, or from the kernel's word about the hook's process."""

from collections.abc import Sequence

from canhazgpu.events.reservations import Record
from canhazgpu.service.containers.decision import Starter
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.reservations.held_use import is_own
from canhazgpu.service.reservations.holder_token import HolderTokens


def starter_of(  # noqa: PLR0913 - all that can prove it
    peer: Peer,
    token: str | None,
    records: Sequence[Record],
    tokens: HolderTokens | None,
    *,
    daemon: bool,
    login_name: str | None,
    exempt_users: Sequence[str],
) -> Starter:
    """Return who started the container whose hook is this peer.

    A runtime of a user's own (rootless) has the user's uid. One of root's has the login uid of the user who
    called it with sudo, whose name is `login_name`, unless a `daemon` started it: that works for anybody.
    """
    proven = tokens.verify(token, records) if tokens and token else None
    if proven is not None:
        holder = proven.record

        def is_holders(record: Record) -> bool:
            return is_own(record, holder.uid, holder.login_uid)

        exempt = holder.user in exempt_users
        return Starter(user=holder.user, is_own=is_holders, exempt=exempt, run_gpus=proven.gpus)
    if daemon and peer.uid == 0:
        return Starter(user=None, is_own=lambda _: False)
    name = login_name or peer.name
    return Starter(
        user=name,
        is_own=lambda record: is_own(record, peer.uid, peer.login_uid),
        exempt=name in exempt_users,
    )
