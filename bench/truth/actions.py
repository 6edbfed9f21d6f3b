"""What each step of an episode does to the lab, and asks of the product."""

from contextlib import suppress
from typing import Any

import msgspec

from bench.truth.episode import Episode, kind_of, uid_for
from bench.truth.lab import ERROR, GONE, OK, Card
from bench.truth.oracle import uid_of
from bench.truth.rights import Request
from bench.truth.steps import Step
from canhazgpu.events.redis_client.store import StoreDown
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.releases import ReleaseOrder

LASTS_MS = 4000  # A manual reservation, so that many end by themselves.
RETRY_MS = 50  # After so long the scanner tries again.


class Actions(Episode):
    """An episode whose steps are done."""

    async def do(self, step: Step) -> None:
        """Do what a step says, if it can be done."""
        action = getattr(self, "_" + step.verb.replace("-", "_"))
        await action(step)

    async def _pause(self, step: Step) -> None:
        del step

    async def _start(self, step: Step) -> None:
        traces = {"claim": self._claim(step), "hint": step.hint}
        self.lab.start(step.name, step.person, step.kind, step.place, step.number, **traces)

    def _claim(self, step: Step) -> str:
        request = self.requests.get(step.claim)
        return request.id if request else ""

    async def _use(self, step: Step) -> None:
        request = self.requests.get(step.place.partition(":")[2])
        if step.kind == "switched" and request:
            request = self._live(request.name)
        if not step.place.startswith("of:"):
            await self._start(step)
        elif request and request.live:
            held = [uuid for uuid, holder in self.oracle.holders.items() if holder is request]
            names = [card.name for card in self.lab.cards.values() if card.uuid in held]
            of_run = kind_of(request) == "run" and step.kind in ("plain", "slice", "sudo", "switched")
            if names:
                run = request.name if of_run and request.name in self.lab.processes else ""
                traces = {
                    "run": run,
                    "claim": self._claim(step),
                    "hint": step.hint,
                    "session": request.person,
                }
                self.lab.start(step.name, step.person, step.kind, names[0], step.number, **traces)

    async def _exit(self, step: Step) -> None:
        self.lab.exit(step.name)

    async def _clear(self, step: Step) -> None:
        """Let everybody leave a card, so that it can be reserved."""
        for one in self.lab.on(self.lab.cards[step.name]):
            self.lab.exit(one.name)

    async def _rename(self, step: Step) -> None:
        self.lab.rename(step.name)

    async def _become_root(self, step: Step) -> None:
        self.lab.become_root(step.name)

    async def _fork(self, step: Step) -> None:
        self.lab.fork(step.person, step.name, step.place, step.number)

    async def _spread(self, step: Step) -> None:
        self.lab.spread(step.name, step.place, step.number)

    async def _reserve(self, step: Step) -> None:
        if self.product is None or self.lab.stalled:
            return
        request = Request(step.name, step.person, step.kind)
        self.requests[step.name] = request
        if kind_of(request) == "run":
            self.lab.start(step.name, step.person, "sudo" if step.kind.startswith("sudo") else "plain", "", 0)
            if step.name not in self.lab.processes:
                return
        await self._scan()
        cards = self.lab.present()
        named = [index for index, card in enumerate(cards) if card.name == step.place]
        root = self.lab.processes.get(step.name)
        extra: dict[str, Any] = {"login_uid": uid_of(step.person)} if step.kind.startswith("sudo") else {}
        extra = {key: value for key, value in extra.items() if key in AllocationRequest.__struct_fields__}
        ask = AllocationRequest(
            kind=kind_of(request),
            user="root" if step.kind.startswith("sudo") else step.person,
            uid=uid_for(request),
            count=None if named else step.number,
            gpus=tuple(named) or None,
            pid=root.pid if root else None,
            start=root.start if root else None,
            duration_ms=None if root else LASTS_MS,
            wait=step.kind.endswith("wait"),
            **extra,
        )
        await self._ask(request, ask)
        if kind_of(request) == "run" and not request.id:
            self.lab.exit(step.name)

    async def _release(self, step: Step) -> None:
        request = self.requests.get(step.name)
        if request and request.live and self.product:
            order = ReleaseOrder(
                uid=uid_for(request), by=request.person, reason="released", ids=(request.id,)
            )
            await self.product.allocator.release(order, f"release-{step.name}-{self.clock.now_ms}")
            await self._listen()
            if not self.product.scan:
                self.product.due_ms = self.clock.now_ms

    async def _run_end(self, step: Step) -> None:
        request = self.requests.get(step.name)
        if step.kind == "any":  # One that left something behind.
            left = {one.run for one in self.lab.processes.values() if one.run not in ("", one.name)}
            request = next((one for one in self.requests.values() if one.live and one.name in left), request)
        if request and request.name in self.lab.processes:
            self.lab.exit(request.name)
            if request.live:
                await self._conclude(request)
            elif request.id:
                await self._leave(msgspec.structs.replace(step, name=request.name))

    async def _leave(self, step: Step) -> None:
        request = self.requests.get(step.name)
        if request and request.id and not request.live and self.product:
            await self.product.allocator.leave([request.id], "cancelled")
            request.kind = "gone"

    def _live(self, name: str) -> Request | None:
        """Return a request, or if it has nothing now, the last that has."""
        live = [one for one in self.requests.values() if one.live]
        asked = self.requests.get(name)
        return asked if asked in live else live[-1] if live else None

    async def _disown(self, step: Step, *, undo: bool = False) -> None:
        request = self._live(step.name)
        if request and self.product:
            name = f"{step.verb}-{step.name}-{self.clock.now_ms}"
            await self.product.allocator.disown(uid_for(request), name, gpus=None, undo=undo)
            await self._listen()

    async def _own_again(self, step: Step) -> None:
        await self._disown(step, undo=True)

    async def _twin(self, step: Step) -> None:
        """Let the driver say the UUID of another card for one; both are where the last scan saw them."""
        card, other = self.lab.cards[step.name], self.lab.cards[step.place]
        now, then = self.lab.sight().cards, self.oracle.sight.cards
        known = all(uuid in now and uuid in then and now[uuid][0] == then[uuid][0] for uuid in now)
        if known and len(then) == len(now) and not self._twins() and {card.uuid, other.uuid} <= now.keys():
            card.said = other.uuid if card is not other else ""

    async def _untwin(self, step: Step) -> None:
        del step
        for card in self._twins():
            card.said = ""

    def _twins(self) -> list[Card]:
        return [card for card in self.lab.cards.values() if card.said]

    async def _fail(self, step: Step) -> None:
        card = self.lab.cards[step.name]
        if card.state == OK:
            card.state = step.kind

    async def _mend(self, step: Step) -> None:
        card = self.lab.cards[step.name]
        card.state = GONE if card.state == GONE else OK

    async def _vanish(self, step: Step) -> None:
        if not self._twins():  # What moves while two have one UUID cannot be told, and is not guessed.
            self.lab.cards[step.name].state = GONE

    async def _return(self, step: Step) -> None:
        card = self.lab.cards[step.name]
        card.state = OK if card.state == GONE and not self._twins() else card.state

    async def _replace(self, step: Step) -> None:
        card = self.lab.cards[step.name]
        if card.state in (GONE, ERROR) and not self._twins():
            card.replaced += 1
            card.uuid, card.state = f"GPU-{card.name}-{card.replaced}", OK

    async def _stall(self, step: Step) -> None:
        self.lab.stalled, self._stalled_ms = True, self.clock.now_ms + step.number

    async def _kill_daemon(self, step: Step) -> None:
        if self.product:
            await self.product.die()
            self.product, self._up_ms = None, self.clock.now_ms + step.number

    async def _kill_redis(self, step: Step) -> None:
        del step
        if self.product and self.product.scan:
            await self._report()
        self._redis.kill()
        if self.product:
            with suppress(StoreDown):
                await self.product.look()
                await self.product.report()
            self.product.due_ms = self.clock.now_ms + RETRY_MS
        self._redis.start()
        await self.store.redis.connection_pool.disconnect()
