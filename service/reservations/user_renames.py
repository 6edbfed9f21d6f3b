"""Keeps one name per uid: reservations and requests have the current names of their users.

A user who reserves while the directory is down has a number as name, and gets the name when it is back. While
the database has no name for a uid, the name in its reservation is used.
"""

from collections.abc import Callable, Iterable

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.storage.journal import State
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

NAME = Script("canhazgpu.service.reservations", "name")


class UserRenames:
    """Compares stored names with the current ones in memory; Redis is only called if they differ."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        users: Users,
        allowances: Allowances,
        promised: Callable[[], State | None],
    ) -> None:
        """`promised` returns the content of the journal: the reservations and requests."""
        self._settings, self._store, self._users = settings, store, users
        self._allowances, self._promised = allowances, promised

    async def follow(self) -> bool:
        """Update names that have changed; return whether there were any. Raises StoreDown."""
        state = self._promised()
        if state is None:
            return False
        held: list[Record | Waiting] = [*state.records.values(), *state.requests.values()]
        self._users.believe({one.uid: one.user for one in held if not one.user.isdecimal()})
        names = self._changed(held)
        if not names:
            return False
        keys, cards = self._store.keys, {int(index) for index in state.cards}
        cards |= {index for one in state.records.values() for index in one.gpus}
        changed = await self._store.run(
            NAME,
            [*host_keys(keys), *map(keys.gpu, sorted(cards))],
            [
                keys.host,
                AllocationPolicy.of(self._settings).text_for(self._store.fencing_token),
                msgspec.json.encode(names),
            ],
        )
        return bool(changed)

    def _changed(self, held: Iterable[Record | Waiting]) -> dict[str, dict[str, str | int]]:
        """Return the new names by uid, each with the user's limit of GPUs."""
        names: dict[str, dict[str, str | int]] = {}
        for one in held:
            name = self._users.name(one.uid)
            if name is not None and name != one.user:
                limit = self._allowances.of(name).gpus
                names[str(one.uid)] = {"name": name, **({} if limit is None else {"limit": limit})}
        return names
