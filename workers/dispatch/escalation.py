"""Decides who is notified of an episode, and when: a pure state machine with one entry point, `advance`.

The first notice waits for `group_wait`. The steps follow at their times, or as soon as the earlier ones are
known to have reached nobody. Another GPU causes another notice, at the earliest `group_interval` after the
last. Reminders follow at growing intervals. At the end, everyone who was notified gets one resolved notice.
While silences cover all open violations, nothing is sent. In quiet hours, some channels are delayed.
"""

from collections.abc import Iterable, Mapping, Sequence

from canhazgpu.events.notices import ADMINS, HOLDER, OFFENDER, is_personal
from canhazgpu.events.silences import Silence
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import Violation
from canhazgpu.workers.dispatch.drafts import THE_ADMINS, THE_OFFENDER, Audience, Draft
from canhazgpu.workers.dispatch.episodes import Episode, Fact, apply, copy, place
from canhazgpu.workers.dispatch.escalation_step import EscalationStep
from canhazgpu.workers.dispatch.policy import TERMINATE, Policy

TRY_AGAIN_MS = 600_000  # Delay before processes can be ended, after too many were.


def advance(  # noqa: PLR0913 - the whole of what it depends on
    episode: Episode | None,
    facts: Sequence[Fact],
    now_ms: int,
    policy: Policy,
    silences: Iterable[Silence] = (),
    *,
    acknowledged: Mapping[int, int] | None = None,
    may_terminate: bool = True,
) -> tuple[Episode | None, list[Draft]]:
    """Return the episode after `facts` and the steps due at `now_ms`, and the notices to send.

    None means that there is no episode. `acknowledged`: the end of the last acknowledgement by uid.
    `may_terminate`: whether the limit for ending processes is not reached.
    """
    episode = copy(episode) if episode else None
    for fact in facts:
        episode = apply(episode, fact, now_ms, policy)
    if episode is None:
        return None, []
    escalation = _Escalation(episode, now_ms, policy, silences, acknowledged or {})
    escalation.take(may_terminate=may_terminate)
    if escalation.finished:
        return None, escalation.drafts
    episode.due_ms = escalation.due()
    return episode, escalation.drafts


class _Escalation(EscalationStep):
    """Takes the steps of an episode that are due."""

    def take(self, *, may_terminate: bool) -> None:
        """Take the steps that are due."""
        episode = self.episode
        if episode.hold_ms is not None and episode.hold_ms <= self.now_ms:
            self._resolve()
            return
        self._resolve_holders()
        if self.visible:
            self._send_deferred()
            self._notify()
            self._steps()
            self._escalate_holders()
            self._remind()
            self._terminate(may_terminate=may_terminate)

    def due(self) -> int | None:
        """Return the time of the next check of the episode."""
        episode = self.episode
        moments = [episode.hold_ms, episode.wake_ms, *episode.resolve_holder_ms.values()]
        if self.visible:
            moments += [self._notify_ms(), self._step_ms(), episode.remind_ms, self._terminate_ms()]
            moments += [self._admins_ms() for one in self._holders() if self._is_stuck(one)]
            moments += [later.due_ms for later in episode.later]
        return min((moment for moment in moments if moment is not None), default=None)

    def _notify_ms(self) -> int | None:
        """Return when to send a notice about new violations, or None if all are known."""
        episode = self.episode
        if all(place(one) in episode.notified for one in self.visible):
            return None
        wanted = self.now_ms if episode.notify_ms is None else episode.notify_ms
        return max(wanted, self._after(episode.last_ms))

    def _after(self, last_ms: int | None) -> int:
        """Return the earliest time for another notice after the one at `last_ms`."""
        return self.now_ms if last_ms is None else max(self.now_ms, last_ms + self.policy.interval_ms())

    def _step_ms(self) -> int | None:
        """Return when the next step is due; the last one reports that nobody was reached."""
        episode = self.episode
        if episode.first_ms is None:
            return None
        left = self.policy.steps[episode.step :]
        if episode.forward:
            due = self.now_ms if left and set(left[0].to) != {ADMINS} else self._admins_ms()
            return min(due, episode.first_ms + left[0].after_ms) if left else due
        return episode.first_ms + left[0].after_ms if left else None

    def _admins_ms(self) -> int:
        """Return when administrators can be told of somebody who was not reached: once an interval."""
        waits = any(later.audience == THE_ADMINS.key for later in self.episode.later)
        known = THE_ADMINS.key in self.episode.used_channels and not waits
        return self._after(self.episode.last_ms) if known else self.now_ms

    def _notify(self) -> None:
        """Send the first notice, or one about new violations."""
        episode, due = self.episode, self._notify_ms()
        if due is None or due > self.now_ms:
            return
        if episode.first_ms is None:
            episode.first_ms = self.now_ms
            episode.remind_ms = self.now_ms + self.policy.pause_ms(0)
        else:
            for audience, channels in self.recipients(self.policy.steps[: episode.step]).items():
                known = episode.used_channels.get(audience.key, ())
                ways = (*channels, *known) if audience.name == HOLDER else channels
                self.emit("changed" if known else "opened", audience, ways)
        episode.notify_ms = None
        episode.notified.update(dict.fromkeys(map(place, self.visible)))

    def _steps(self) -> None:
        """Take the steps that are due, and those brought forward because nobody was reached."""
        episode = self.episode
        while (due := self._step_ms()) is not None and due <= self.now_ms:
            forced, episode.forward = episode.forward, False
            if episode.step >= len(self.policy.steps):
                self._nobody_reached()
                return
            step = self.policy.steps[episode.step]
            episode.step += 1
            for audience, channels in self.recipients([step]).items():
                if audience.name == HOLDER and episode.step - 1 in self._early(audience.recipient):
                    continue  # It was brought forward for this holder.
                missed = forced and audience.name != OFFENDER
                sent = self.emit(self._kind(audience), audience, channels, unreached=missed)
                episode.unreached |= sent and missed and audience.name == ADMINS
            if OFFENDER in step.to or forced:
                episode.forward = episode.stuck and not episode.unreached

    def _early(self, holder: str) -> tuple[int, ...]:
        escalation = self.episode.holder_escalations.get(holder)
        return escalation.early if escalation else ()

    def _escalate_holders(self) -> None:
        """Notify holders who were not reached with the next step; if there is none, notify administrators."""
        steps = self.policy.steps
        for audience in self._holders():
            holder, escalation = audience.recipient, self.episode.holder_escalations[audience.recipient]
            while self._is_stuck(audience) and escalation.step < len(steps):
                step, escalation.step = steps[escalation.step], escalation.step + 1
                used = self.episode.used_channels.get(audience.key, ())
                fresh = [one for one in self.policy.concrete(step.channels) if one not in used]
                wanted = HOLDER in step.to or (OFFENDER in step.to and any(map(is_personal, fresh)))
                if wanted and self.emit("opened", audience, fresh) and escalation.step > self.episode.step:
                    escalation.early = (*escalation.early, escalation.step - 1)
            if self._is_stuck(audience) and self._admins_ms() <= self.now_ms:
                escalation.given_up = True
                names = tuple(self.policy.notices.admin_channels)
                self.emit(self._kind(THE_ADMINS), THE_ADMINS, names, unreached_holder=holder)

    def _holders(self) -> list[Audience]:
        present = {one.holder for one in self.visible if one.holder}
        return [
            Audience(HOLDER, holder) for holder in sorted(present & self.episode.holder_escalations.keys())
        ]

    def _is_stuck(self, holder: Audience) -> bool:
        escalation = self.episode.holder_escalations[holder.recipient]
        waits = any(later.audience == holder.key for later in self.episode.later)
        return not (escalation.reached or escalation.given_up or escalation.awaiting or waits)

    def _nobody_reached(self) -> None:
        if not self.episode.unreached:
            self.episode.unreached = True
            names = tuple(self.policy.notices.admin_channels)
            self.emit(self._kind(THE_ADMINS), THE_ADMINS, names, unreached=True)

    def _kind(self, audience: Audience) -> str:
        """Return the kind of a notice; for an offender who was not reached yet it is the first one."""
        known = audience.key in self.episode.used_channels and (
            audience.name != OFFENDER or self.episode.reached
        )
        return "reminder" if known else "opened"

    def _remind(self) -> None:
        episode = self.episode
        if episode.remind_ms is None or episode.remind_ms > self.now_ms:
            return
        episode.reminders += 1
        episode.remind_ms = self.now_ms + self.policy.pause_ms(episode.reminders)
        recipients = self.recipients(self.policy.steps[: episode.step])
        wanted = [one for one in recipients if one.name == OFFENDER and self.user_of(one)]
        for audience in wanted or [one for one in recipients if one.name == ADMINS]:
            self.emit("reminder", audience, recipients[audience])

    def _terminate_ms(self) -> int | None:
        episode, after = self.episode, self.policy.terminate_ms
        enough = len(episode.reached) >= self.policy.terminate.after_notices
        done = episode.terminated or (episode.dry_run_sent and self.policy.terminate.dry_run)
        if after is None or episode.first_ms is None or done or not enough:
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
            now, _ = self.by_quiet(self.episode.used_channels.get(THE_OFFENDER.key, ()))
            self.draft("terminate", THE_OFFENDER, (TERMINATE, *now), self.visible)
        self.episode.dry_run_sent = True
        self.episode.terminated = not self.policy.terminate.dry_run

    def _resolve_holders(self) -> None:
        """Send resolved notices to holders whose GPUs have not been used by others for a while."""
        episode = self.episode
        present = {one.holder for one in episode.open.values()}
        for holder in [one for one in episode.holder_escalations if one not in present]:
            if Audience(HOLDER, holder).key not in episode.used_channels:
                del episode.holder_escalations[holder]
        for key in [key for key in episode.used_channels if Audience.of(key).name == HOLDER]:
            holder = Audience.of(key).recipient
            if any(one.holder == holder for one in episode.open.values()):
                episode.resolve_holder_ms.pop(holder, None)
                continue
            about = self._ended_for(holder)
            due = episode.resolve_holder_ms.setdefault(holder, self.now_ms + self.policy.hold_ms())
            if about and due > self.now_ms:
                continue
            self._send_resolved(Audience.of(key), episode.used_channels.pop(key), about)
            del episode.resolve_holder_ms[holder]
            episode.violations_by_holder.pop(holder, None)
            episode.holder_escalations.pop(holder, None)

    def _ended_for(self, holder: str) -> list[Violation]:
        """Return the violations on a holder's GPUs that ended before the GPUs were released."""
        return [one for one in self.episode.violations_by_holder.get(holder, {}).values() if one.closed]

    def _resolve(self) -> None:
        """Send resolved notices to everyone who was notified."""
        for key, channels in self.episode.used_channels.items():
            audience = Audience.of(key)
            holds = audience.name == HOLDER
            about = self._ended_for(audience.recipient) if holds else list(self.episode.ended.values())
            self._send_resolved(audience, channels, about)
        self.finished = True

    def _send_resolved(self, audience: Audience, channels: Iterable[str], about: Sequence[Violation]) -> None:
        """Send the resolved notice; through quiet channels at the end of quiet hours."""
        now, quiet = self.by_quiet(channels)
        if now and about:
            self.draft("resolved", audience, now, about)
        if quiet and about:
            until = rfc3339(min(quiet.values()))
            self.draft("resolved", audience, tuple(quiet), about, not_before=until)

    def _send_deferred(self) -> None:
        due = [later for later in self.episode.later if later.due_ms <= self.now_ms]
        self.episode.later = tuple(later for later in self.episode.later if later not in due)
        for later in due:
            self.emit(
                later.kind,
                Audience.of(later.audience),
                later.channels,
                unreached=later.unreached,
                unreached_holder=later.unreached_holder,
            )
