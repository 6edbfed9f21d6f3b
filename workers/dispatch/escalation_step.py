"""Collects the notices of one step of an episode: the recipients and the content."""

from collections.abc import Iterable, Mapping, Sequence

from canhazgpu.config.notices import Step
from canhazgpu.events.notices import ADMINS, HOLDER, OFFENDER, is_personal
from canhazgpu.events.silences import Silence
from canhazgpu.events.timestamps import ms_of
from canhazgpu.events.violations import Violation
from canhazgpu.workers.dispatch.drafts import Audience, Draft, audiences
from canhazgpu.workers.dispatch.episodes import DeferredNotice, Episode, HolderEscalation
from canhazgpu.workers.dispatch.policy import TERMINATE, Policy


class EscalationStep:
    """Collects the notices of one step. `visible` are the open violations that are not silenced."""

    def __init__(
        self,
        episode: Episode,
        now_ms: int,
        policy: Policy,
        silences: Iterable[Silence],
        acknowledged: Mapping[int, int],
    ) -> None:
        """Determine the visible violations."""
        self.episode, self.now_ms, self.policy = episode, now_ms, policy
        self.acknowledged = acknowledged
        self.drafts: list[Draft] = []
        self._posted_violations: dict[
            tuple[str, str], set[str]
        ] = {}  # The violations by webhook and kind of notice.
        self.finished = False
        live = [silence for silence in silences if silence.until_ms > now_ms]
        self.visible: list[Violation] = []
        ends = []
        for violation in episode.open.values():
            covering = [silence.until_ms for silence in live if silence.covers(violation)]
            ends += covering
            if not covering:
                self.visible.append(violation)
        episode.wake_ms = min(ends, default=None)

    def recipients(self, steps: Iterable[Step]) -> dict[Audience, tuple[str, ...]]:
        """Return the recipients of these steps and their channels."""
        found: dict[Audience, tuple[str, ...]] = {}
        for step in steps:
            for to in step.to:
                for audience in audiences(to, self.visible):
                    found[audience] = (*found.get(audience, ()), *step.channels)
        return found

    def user_of(self, audience: Audience) -> str | None:
        """Return the recipient's user name, or None for administrators and addresses."""
        if audience.name == HOLDER:
            return audience.recipient
        people = (one.person for one in self.visible or self.episode.ended.values() if one.person)
        return next(people, None) if audience.name == OFFENDER else None

    def relevant_to(self, audience: Audience, violations: Iterable[Violation]) -> list[Violation]:
        """Return the violations that are relevant to an audience."""
        return [one for one in violations if audience.name != HOLDER or one.holder == audience.recipient]

    def by_quiet(self, names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return the channels that can be used now, and the end of quiet hours for the others."""
        now, quiet = [], {}
        for channel in self.policy.concrete(names):
            until = self.policy.quiet_until(channel, self.now_ms)
            if until is None:
                now.append(channel)
            else:
                quiet[channel] = until
        return tuple(now), quiet

    def emit(
        self,
        kind: str,
        audience: Audience,
        names: Sequence[str],
        *,
        unreached: bool = False,
        unreached_holder: str | None = None,
    ) -> bool:
        """Notify an audience of the visible violations; through quiet channels at the end of quiet hours.

        Return False if there is no recipient or no channel.
        """
        episode = self.episode
        about = self.relevant_to(audience, self.visible)
        if not about or (audience.name == OFFENDER and self.user_of(audience) is None):
            return False
        if audience.name == HOLDER:
            episode.holder_escalations.setdefault(audience.recipient, HolderEscalation())
        now, quiet = self.by_quiet(names)
        waits = [later for later in episode.later if later.audience == audience.key]
        if unreached or unreached_holder:  # A notice with this flag replaces those without.
            episode.later = tuple(later for later in episode.later if later not in waits)
            unreached |= any(later.unreached for later in waits)
            unreached_holder = unreached_holder or next(
                (later.unreached_holder for later in waits if later.unreached_holder), None
            )
            quiet |= {one: later.due_ms for later in waits for one in later.channels}
            waits = []
        planned = {one for later in waits for one in later.channels}
        if fresh := tuple(channel for channel in quiet if channel not in planned):
            later = DeferredNotice(
                due_ms=min(quiet.values()),
                audience=audience.key,
                kind=kind,
                channels=fresh,
                unreached=unreached,
                unreached_holder=unreached_holder,
            )
            episode.later = (*episode.later, later)
        if now:
            self.draft(kind, audience, now, about, unreached=unreached, unreached_holder=unreached_holder)
            episode.last_ms = self.now_ms
            used = (*episode.used_channels.get(audience.key, ()), *now)
            episode.used_channels[audience.key] = tuple(dict.fromkeys(used))
            trying = tuple(channel for channel in now if is_personal(channel))
            if audience.name == OFFENDER and trying:
                episode.awaiting[str(episode.serial)] = trying
            if audience.name == HOLDER and trying:
                episode.holder_escalations[audience.recipient].awaiting[str(episode.serial)] = trying
        return bool(now or quiet)

    def may_ack(self, about: Iterable[Violation]) -> bool:
        """Return whether the user can acknowledge these violations; this is possible once per episode."""
        longest_ms, violations = round(self.policy.notices.ack_max * 1000), list(about)
        last_ms = max(
            (self.acknowledged.get(one.uid, 0) for one in violations if one.uid is not None), default=0
        )
        begun = all(ms_of(one.since) > last_ms for one in violations)
        return longest_ms > 0 and begun and self.now_ms >= last_ms + longest_ms

    def _posted(self, channel: str, kind: str, about: Iterable[Violation]) -> bool:
        """Return whether this step already sends the same to a webhook, which all recipients share."""
        if channel.partition(":")[0] != "webhook":
            return False
        posted, names = (
            self._posted_violations.setdefault((channel, kind), set()),
            {one.violation for one in about},
        )
        known = names <= posted
        posted |= names
        return known

    def draft(  # noqa: PLR0913 - what a notice is made of
        self,
        kind: str,
        audience: Audience,
        channels: tuple[str, ...],
        about: Iterable[Violation],
        *,
        unreached: bool = False,
        unreached_holder: str | None = None,
        not_before: str | None = None,
    ) -> None:
        """Create a draft."""
        ordered = tuple(sorted(about, key=lambda one: (one.gpu, one.since)))
        if not (unreached or unreached_holder):
            channels = tuple(one for one in channels if not self._posted(one, kind, ordered))
        if not channels:
            return
        self.episode.serial += 1
        whose = next((one for one in ordered if one.person), ordered[0])
        self.drafts.append(
            Draft(
                kind=kind,
                episode=self.episode.episode,
                group=whose.key,
                serial=self.episode.serial,
                user=whose.user,
                uid=whose.uid,
                person=self.user_of(audience),
                audience=audience.name,
                to=audience.recipient if audience.name not in (OFFENDER, HOLDER, ADMINS) else None,
                channels=channels,
                violations=ordered,
                contact=self.policy.notices.contact,
                may_ack=self.may_ack(ordered),
                unreached=unreached,
                unreached_holder=unreached_holder,
                not_before=not_before,
                dry_run=kind == TERMINATE and self.policy.terminate.dry_run,
            )
        )
