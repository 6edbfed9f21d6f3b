"""Who hears what of an episode, and when: a pure machine. `advance` is all of it.

The first notice waits for `group_wait`; then come the steps, each at its time, or as soon as it is known
that those before reached nobody. Another GPU makes one more notice, at the earliest `group_interval` after
the last. Reminders come at growing intervals. When it is over, those who were told hear so, once. While a
silence covers everything that is open, nothing is said; in quiet hours the channels that can wait do.
"""

from collections.abc import Iterable, Sequence

from canhazgpu.config.notices import Step
from canhazgpu.events.moments import rfc3339
from canhazgpu.events.notices import ADMINS, HOLDER, OFFENDER
from canhazgpu.events.silences import Silence
from canhazgpu.events.violations import Violation
from canhazgpu.workers.drafts import THE_ADMINS, THE_OFFENDER, Audience, Draft, audiences
from canhazgpu.workers.episodes import NOBODY, Episode, Fact, Later, apply, copy, place
from canhazgpu.workers.policy import TERMINATE, Policy

TRY_AGAIN_MS = 600_000  # Until processes may be ended, after too many were.


def advance(  # noqa: PLR0913 - the whole of what it depends on
    episode: Episode | None,
    facts: Sequence[Fact],
    now_ms: int,
    policy: Policy,
    silences: Iterable[Silence] = (),
    *,
    may_terminate: bool = True,
) -> tuple[Episode | None, list[Draft]]:
    """Return the episode after `facts` and after what was due at `now_ms`, and the notices to send.

    None stands for no episode. `may_terminate`: not too many episodes were ended by force lately.
    """
    episode = copy(episode) if episode else None
    for fact in facts:
        episode = apply(episode, fact, now_ms, policy)
    if episode is None:
        return None, []
    turn = _Turn(episode, now_ms, policy, silences)
    turn.take(may_terminate=may_terminate)
    if turn.over:
        return None, turn.drafts
    episode.due_ms = turn.due()
    return episode, turn.drafts


class _Turn:
    """One look at one episode at one moment."""

    def __init__(self, episode: Episode, now_ms: int, policy: Policy, silences: Iterable[Silence]) -> None:
        self.episode, self.now_ms, self.policy = episode, now_ms, policy
        self.drafts: list[Draft] = []
        self.over = False
        live = [silence for silence in silences if silence.until_ms > now_ms]
        self.visible: list[Violation] = []
        ends = []
        for violation in episode.open.values():
            covering = [silence.until_ms for silence in live if silence.covers(violation)]
            ends += covering
            if not covering:
                self.visible.append(violation)
        episode.wake_ms = min(ends, default=None)

    def take(self, *, may_terminate: bool) -> None:
        """Do what is due."""
        episode = self.episode
        if episode.hold_ms is not None and episode.hold_ms <= self.now_ms:
            self._resolve()
        elif self.visible:
            self._send_later()
            self._notify()
            self._steps()
            self._remind()
            self._terminate(may_terminate=may_terminate)

    def due(self) -> int | None:
        """Return when the episode has to be looked at again."""
        episode = self.episode
        moments = [episode.hold_ms, episode.wake_ms]
        if self.visible:
            moments += [self._notify_ms(), self._step_ms(), episode.remind_ms, self._terminate_ms()]
            moments += [later.due_ms for later in episode.later]
        return min((moment for moment in moments if moment is not None), default=None)

    def _notify_ms(self) -> int | None:
        """Return when those who have heard before hear of what has joined; None when they know it all."""
        episode = self.episode
        if all(place(one) in episode.told for one in self.visible):
            return None
        wanted = self.now_ms if episode.notify_ms is None else episode.notify_ms
        return max(wanted, self._after(episode.last_ms))

    def _after(self, last_ms: int | None) -> int:
        """Return the first moment at which something may follow what was told at `last_ms`."""
        return self.now_ms if last_ms is None else max(self.now_ms, last_ms + self.policy.interval_ms())

    def _step_ms(self) -> int | None:
        """Return when the next step is due; with none left there is still the telling of nobody reached."""
        episode = self.episode
        if episode.first_ms is None:
            return None
        left = self.policy.steps[episode.step :]
        if episode.forward:
            hurry = left or THE_ADMINS.key not in episode.heard or episode.last_ms is None
            return self.now_ms if hurry else self._after(episode.last_ms)
        return episode.first_ms + left[0].after_ms if left else None

    def _notify(self) -> None:
        """Begin, or tell of what has joined."""
        episode, due = self.episode, self._notify_ms()
        if due is None or due > self.now_ms:
            return
        if episode.first_ms is None:
            episode.first_ms = self.now_ms
            episode.remind_ms = self.now_ms + self.policy.pause_ms(0)
        else:
            for audience, channels in self._concerned(self.policy.steps[: episode.step]).items():
                self._emit("changed" if audience.key in episode.heard else "opened", audience, channels)
        episode.notify_ms = None
        episode.told.update(dict.fromkeys(map(place, self.visible)))

    def _steps(self) -> None:
        """Take the steps whose time has come, and those that are taken early as nobody was reached."""
        episode = self.episode
        while (due := self._step_ms()) is not None and due <= self.now_ms:
            forced, episode.forward = episode.forward, False
            if episode.step >= len(self.policy.steps):
                self._nobody_reached()
                return
            step = self.policy.steps[episode.step]
            episode.step += 1
            for audience, channels in self._concerned([step]).items():
                missed = forced and audience.name != OFFENDER
                told = self._emit(self._kind(audience), audience, channels, unreached=missed)
                episode.unreached |= told and missed and audience.name == ADMINS
            if OFFENDER in step.to or forced:
                episode.forward = episode.stuck and not episode.unreached

    def _nobody_reached(self) -> None:
        if not self.episode.unreached:
            self.episode.unreached = True
            names = tuple(self.policy.notices.admin_channels)
            self._emit(self._kind(THE_ADMINS), THE_ADMINS, names, unreached=True)

    def _kind(self, audience: Audience) -> str:
        return "reminder" if audience.key in self.episode.heard else "opened"

    def _remind(self) -> None:
        episode = self.episode
        if episode.remind_ms is None or episode.remind_ms > self.now_ms:
            return
        episode.reminders += 1
        episode.remind_ms = self.now_ms + self.policy.pause_ms(episode.reminders)
        concerned = self._concerned(self.policy.steps[: episode.step])
        wanted = [one for one in concerned if one.name == OFFENDER and self._person(one)]
        for audience in wanted or [one for one in concerned if one.name == ADMINS]:
            self._emit("reminder", audience, concerned[audience])

    def _terminate_ms(self) -> int | None:
        episode, after = self.episode, self.policy.terminate_ms
        enough = len(episode.reached) >= self.policy.terminate.after_notices
        if after is None or episode.first_ms is None or episode.terminated or not enough:
            return None
        return max(episode.first_ms + after, episode.terminate_ms or 0)

    def _terminate(self, *, may_terminate: bool) -> None:
        due = self._terminate_ms()
        if due is None or due > self.now_ms:
            return
        if not may_terminate:
            self.episode.terminate_ms = self.now_ms + TRY_AGAIN_MS
            return
        if all(one.person for one in self.visible):
            heard = self.episode.heard.get(THE_OFFENDER.key, ())
            self._draft("terminate", THE_OFFENDER, (TERMINATE, *heard), self.visible)
        self.episode.terminated = True

    def _resolve(self) -> None:
        """Tell those who were told that it is over; by channels that are quiet when that ends."""
        for key, channels in self.episode.heard.items():
            now, quiet = self._by_quiet(channels)
            audience = Audience.of(key)
            about = self._about(audience, self.episode.ended.values())
            if now and about:
                self._draft("resolved", audience, now, about)
            if quiet and about:
                self._draft(
                    "resolved", audience, tuple(quiet), about, not_before=rfc3339(min(quiet.values()))
                )
        self.over = True

    def _send_later(self) -> None:
        due = [later for later in self.episode.later if later.due_ms <= self.now_ms]
        self.episode.later = tuple(later for later in self.episode.later if later not in due)
        for later in due:
            self._emit(later.kind, Audience.of(later.audience), later.channels)

    def _concerned(self, steps: Iterable[Step]) -> dict[Audience, tuple[str, ...]]:
        """Return whom these steps speak to, and by which channels."""
        found: dict[Audience, tuple[str, ...]] = {}
        for step in steps:
            for to in step.to:
                for audience in audiences(to, self.visible):
                    found[audience] = (*found.get(audience, ()), *step.channels)
        return found

    def _person(self, audience: Audience) -> str | None:
        """Return the user who reads it, None for administrators and addresses."""
        if audience.name == HOLDER:
            return audience.who
        people = (one.person for one in self.visible or self.episode.ended.values() if one.person)
        return next(people, None) if audience.name == OFFENDER else None

    def _about(self, audience: Audience, violations: Iterable[Violation]) -> list[Violation]:
        return [one for one in violations if audience.name != HOLDER or one.holder == audience.who]

    def _by_quiet(self, names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return the channels that can be used now, and until when the others are quiet."""
        now, quiet = [], {}
        for channel in self.policy.concrete(names):
            until = self.policy.quiet_until(channel, self.now_ms)
            if until is None:
                now.append(channel)
            else:
                quiet[channel] = until
        return tuple(now), quiet

    def _emit(self, kind: str, audience: Audience, names: Sequence[str], *, unreached: bool = False) -> bool:
        """Tell an audience of what is visible: now, or by the channels that are quiet when that ends.

        False when there is nobody, or no channel.
        """
        episode = self.episode
        about = self._about(audience, self.visible)
        if not about or (audience.name == OFFENDER and self._person(audience) is None):
            return False
        now, quiet = self._by_quiet(names)
        planned = {one for later in episode.later if later.audience == audience.key for one in later.channels}
        if fresh := [channel for channel in quiet if channel not in planned]:
            due_ms = min(quiet.values())
            later = Later(due_ms=due_ms, audience=audience.key, kind=kind, channels=tuple(fresh))
            episode.later = (*episode.later, later)
        if now:
            self._draft(kind, audience, now, about, unreached=unreached)
            episode.last_ms = self.now_ms
            heard = (*episode.heard.get(audience.key, ()), *now)
            episode.heard[audience.key] = tuple(dict.fromkeys(heard))
            trying = tuple(channel for channel in now if channel not in NOBODY)
            if audience.name == OFFENDER and trying:
                episode.awaiting[str(episode.serial)] = trying
        return bool(now or quiet)

    def _draft(  # noqa: PLR0913 - what a notice is made of
        self,
        kind: str,
        audience: Audience,
        channels: tuple[str, ...],
        about: Iterable[Violation],
        *,
        unreached: bool = False,
        not_before: str | None = None,
    ) -> None:
        self.episode.serial += 1
        ordered = tuple(sorted(about, key=lambda one: (one.gpu, one.since)))
        whose = next((one for one in ordered if one.person), ordered[0])
        self.drafts.append(
            Draft(
                kind=kind,
                episode=self.episode.episode,
                group=whose.key,
                serial=self.episode.serial,
                user=whose.user,
                uid=whose.uid,
                person=self._person(audience),
                audience=audience.name,
                to=audience.who if audience.name not in (OFFENDER, HOLDER, ADMINS) else None,
                channels=channels,
                violations=ordered,
                contact=self.policy.notices.contact,
                unreached=unreached,
                not_before=not_before,
                dry_run=kind == TERMINATE and self.policy.terminate.dry_run,
            )
        )
