"""One name for each uid: reservations and requests are called what the user database calls their users now.

Who reserves while a directory is away is known by a number, and gets the name when it is back. The name that
a reservation has stands in for as long as it lasts where the database gives none.
"""

from collections.abc import Callable, Iterable

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.api.requests import allowance
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.storage.journal import State
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

NAME = Script("canhazgpu.service.reservations", "name")


class UserRenames:
    """Compares what is held with the names of now, from memory: nothing is asked of Redis when they agree."""

    def __init__(
        self, settings: Settings, store: Store, users: Users, promised: Callable[[], State | None]
    ) -> None:
        """`promised` returns what is held, and who waits, as the journal has it."""
        self._settings, self._store, self._users = settings, store, users
        self._promised = promised

    async def follow(self) -> bool:
        """Give what is held the names of now; whether anything had another. Raises StoreDown."""
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
                AllocationPolicy.of(self._settings).text_for(self._store.promise),
                msgspec.json.encode(names),
            ],
        )
        return bool(changed)

    def _changed(self, held: Iterable[Record | Waiting]) -> dict[str, dict[str, str | int]]:
        """Return, by uid, the names that are not those of what is held, with how many GPUs they may have."""
        names: dict[str, dict[str, str | int]] = {}
        for one in held:
            name = self._users.name(one.uid)
            if name is not None and name != one.user:
                limit = allowance(self._settings, name).gpus
                names[str(one.uid)] = {"name": name, **({} if limit is None else {"limit": limit})}
        return names
