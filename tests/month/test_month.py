"""In a simulated month of 24 users and 16 GPUs, every notice is the expected one."""

import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from month.host import QUIET, Host
from month.people import DAY, GOOD, HOUR, MAILBOX_FULL, MINUTE, USERS, WITHOUT_ADDRESS, Lives
from month.records import Month, read, undisturbed

from canhazgpu.events.notices import Delivery, Notice
from canhazgpu.events.outbox import deadletters
from canhazgpu.events.timestamps import ms_of
from canhazgpu.workers.delivery import ENDS
from canhazgpu.workers.dispatch.policy import quiet_until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(3600)]
SEED = int(os.environ.get("MONTH_SEED", "11"))
DAYS = int(os.environ.get("MONTH_DAYS", "30"))
BEGIN = 1_790_553_600_000  # Monday 2026-09-28, 00:00 UTC: before the ids that Redis gives.
LATE = 2 * HOUR  # A mail that is tried again may come so late.


async def live(host: Host) -> None:
    """Simulate the month with restarts, and then continue until nothing is due."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    rng = random.Random(SEED)
    lives = Lives(SEED, BEGIN, DAYS)
    await host.go_to(BEGIN)
    await host.start_workers()
    await host.scan()
    restart, crash = BEGIN + HOUR, BEGIN + 3 * HOUR
    for moment, deed in lives:
        while (due := await host.next_ms()) is not None and due < moment:
            await host.go_to(due)
            await host.turn()
        await host.go_to(moment)
        await host.do(deed)
        if moment > restart:
            restart = moment + round(rng.expovariate(1 / (5 * HOUR)))
            await rng.choice((host.start_workers, host.drop_in_the_act))()
        if moment > crash:
            crash = moment + round(rng.expovariate(1 / (40 * HOUR)))
            host.start_redis()
            await host.start_workers()
        await host.turn()
    last = host.now_ms + 30 * DAY
    while (due := await host.next_ms()) is not None and due < last:
        await host.go_to(due)
        await host.turn()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use one event loop for all tests of the month."""
    return "asyncio"


@pytest.fixture(scope="module")
async def month() -> AsyncIterator[Month]:
    """The month, simulated once."""
    with tempfile.TemporaryDirectory(prefix="chg-month-") as folder:
        host = Host(Path(folder), BEGIN, SEED)
        began = time.monotonic()
        try:
            await live(host)
            keys = host.store.keys
            facts = await read(host, keys.violations)
            notices = [msgspec.convert(one.data, Notice) for one in await read(host, keys.notices)]
            attempts = [msgspec.convert(one.data, Delivery) for one in await read(host, keys.deliveries)]
            made = Month(host, facts, notices, attempts)
            sys.stderr.write(
                f"{time.monotonic() - began:.0f} s, {len(made.spans)} episodes, {len(notices)} notices,"
                f" {len(attempts)} attempts, {host.mailbox.failed} of {host.mailbox.begun} mails refused\n"
            )
            yield made
        finally:
            await host.close()


async def test_the_month_is_busy_enough(month: Month) -> None:
    """The month has over 180 episodes of at least 15 users, and a third of the mails fail at first."""
    assert len(month.spans) > 6 * DAYS
    assert len({span.user for span in month.spans}) >= 15
    assert 0.25 < month.host.mailbox.failed / month.host.mailbox.begun < 0.42


async def test_the_first_notice_is_sent_when_the_wait_is_over(month: Month) -> None:
    """An episode that lasts longer than the wait gets one notice on terminals, when the wait is over."""
    for span in undisturbed(month):
        first = [
            one
            for one in month.of(span)
            if one.audience == "offender" and one.kind == "opened" and "wall" in one.channels
        ]
        due = span.first_told
        assert [ms_of(one.created) for one in first] == ([] if due is None else [due]), span
        assert all(one.channels == ("wall", "log") for one in first)


async def test_an_unreachable_user_is_notified_by_the_next_channel_at_once(month: Month) -> None:
    """A user with no terminal is mailed at once or after quiet hours; with no address, administrators are."""
    checked = 0
    for span in undisturbed(month):
        notices = month.of(span)
        first, seen = month.first(span)
        if first is None or seen:
            continue
        made = ms_of(first.created)
        until = quiet_until(QUIET, made)
        mails = [one for one in notices if one.audience == "offender" and one.channels == ("email",)]
        if until is None:
            assert mails, span
            assert ms_of(mails[0].created) == made
            if span.user in WITHOUT_ADDRESS:
                admins = [one for one in notices if one.audience == "admins"]
                assert admins, span
                assert ms_of(admins[0].created) == made
                assert admins[0].unreached
                checked += 1
        elif span.open_at(until):
            assert until in [ms_of(one.created) for one in mails], span
    assert checked > 5


async def test_escalation_steps_are_sent_when_they_are_due(month: Month) -> None:
    """If the violation lasts, a mail follows after 10 minutes, and one to administrators after an hour."""
    mailed = escalated = 0
    for span in undisturbed(month):
        notices = month.of(span)
        first, seen = month.first(span)
        if first is None or not seen:
            continue
        made = ms_of(first.created)
        for after, audience in ((10 * MINUTE, "offender"), (HOUR, "admins")):
            found = [
                ms_of(one.created)
                for one in notices
                if one.audience == audience and "email" in one.channels and one.kind != "resolved"
            ]
            due = quiet_until(QUIET, made + after) or made + after
            if span.over is not None and made + after >= span.over:
                assert found == [], span
            elif all(span.open_at(moment) for moment in (made + after, due)):
                assert due in found, (span.user, made, found)
                mailed += audience == "offender"
                escalated += audience == "admins"
    assert mailed > 20
    assert escalated > 10


async def test_only_offenders_and_holders_are_notified(month: Month) -> None:
    """Only offenders and affected holders get notices about violations."""
    for moment, person, notice in month.host.terminals.shown:
        assert notice.person == person
        if notice.audience == "offender" and notice.violations:
            assert notice.user == person
            assert person not in GOOD
            assert all(one.user == person for one in notice.violations)
        elif notice.audience == "holder":
            assert all(one.holder == person for one in notice.violations)
        assert moment >= BEGIN
    for _, address, mail in month.host.mailbox.taken:
        name = address.partition("@")[0]
        assert mail["To"] == address
        assert name == "admins" or name in USERS
        if name in GOOD:
            assert "without a reservation" not in mail["Subject"]


async def test_no_notice_is_delivered_twice(month: Month) -> None:
    """Each notice reaches a user once per channel, and each step of an episode is sent once per audience."""
    shown = Counter((person, notice.notice) for _, person, notice in month.host.terminals.shown)
    assert set(shown.values()) == {1}
    mails = Counter((address, mail["Message-ID"]) for _, address, mail in month.host.mailbox.taken)
    assert set(mails.values()) == {1}
    made = Counter((one.group, one.episode, one.serial) for one in month.notices if one.violations)
    assert set(made.values()) == {1}
    at_once = Counter(
        (one.episode, one.audience, one.person, one.created, channel)
        for one in month.notices
        if one.violations
        for channel in one.channels
    )
    assert [key for key, times in at_once.items() if times > 1] == []


async def test_each_episode_gets_one_resolved_notice(month: Month) -> None:
    """Those who were notified of an episode get one resolved notice, by mail after quiet hours."""
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for _, person, notice in month.host.terminals.shown:
        if notice.violations and notice.audience != "holder":  # They hear of the end on their own GPUs.
            told[notice.episode, f"wall {person}"].append(notice.kind)
    by_id = {f"<{one.notice}@month>": one for one in month.notices}
    for _, address, mail in month.host.mailbox.taken:
        notice = by_id[mail["Message-ID"]]
        if notice.violations and notice.audience != "holder":
            told[notice.episode, f"email {address}"].append(notice.kind)
    mailed = [by_id[mail["Message-ID"]] for _, _, mail in month.host.mailbox.taken]
    assert any(notice.audience == "holder" for notice in mailed), "each of them had a terminal"
    over = {span.parts[0][2].violation: span for span in month.spans if span.over}
    missed = []
    for (episode, who), kinds in told.items():
        assert kinds.count("resolved") <= 1, (episode, who, kinds)
        assert kinds[0] != "resolved", (episode, who, kinds)
        span = next((one for one in over.values() if episode in {p[2].violation for p in one.parts}), None)
        if span and "resolved" not in kinds:
            missed.append((episode, who, kinds))
    # Whoever logged out meanwhile has no terminal to be told on.
    assert all(who.startswith("wall ") for _, who, _ in missed), missed
    for span in month.spans:
        ends = [one for one in month.of(span) if one.kind == "resolved" and one.audience != "holder"]
        per = Counter((one.audience, one.person, channel) for one in ends for channel in one.channels)
        assert all(times == 1 for times in per.values()), (span, per)
        if span.over and ends:
            assert min(ms_of(one.created) for one in ends) >= span.over


async def test_reminders_come_at_growing_intervals(month: Month) -> None:
    """Reminders follow 4, 8 and 16 hours after the notice before, while the violation is open."""
    checked = 0
    for span in undisturbed(month):
        due, pause = span.first_told, 4 * HOUR
        while due is not None:
            due, pause = due + pause, pause * 2
            if span.over is None or due >= span.over:
                break
            if not span.open_at(due):
                break
            reminders = [
                one for one in month.of(span) if one.kind == "reminder" and ms_of(one.created) == due
            ]
            assert reminders, (span.user, span.begin, due)
            checked += 1
    assert checked > 10


async def test_everything_is_delivered_or_a_dead_letter(month: Month) -> None:
    """At the end nothing is queued or unacknowledged, and exactly the failed notices are dead letters."""
    store, keys = month.host.store, month.host.store.keys
    final: dict[tuple[str, str], list[str]] = defaultdict(list)
    for attempt in month.attempts:
        if attempt.final:
            final[attempt.notice, attempt.channel].append(attempt.outcome)
    for notice in month.notices:
        for channel in notice.channels:
            if notice.kind not in ENDS:
                assert final[notice.notice, channel], (notice.kind, channel)
    outcomes = Counter(outcome for rows in final.values() for outcome in rows)
    letters = await deadletters(store, 100_000)
    assert outcomes["failed"] == len(letters) > 0
    assert {letter.recipient.partition("@")[0] for letter in letters} == MAILBOX_FULL
    assert set(outcomes) == {"delivered", "nobody", "failed"}
    for channel in ("wall", "email", "log"):
        assert await store.redis.zcard(keys.retries(channel)) == 0
        assert await store.redis.hlen(keys.progress(channel)) == 0
    for stream in (keys.violations, keys.notices, keys.deliveries, keys.events):
        groups: Any = await store.redis.xinfo_groups(stream)
        assert [group["name"] for group in groups if group["pending"]] == []


async def test_mail_keeps_the_quiet_hours(month: Month) -> None:
    """Mails about violations are not sent in quiet hours, except for retries."""
    by_id = {f"<{one.notice}@month>": one for one in month.notices}
    for notice in month.notices:
        if notice.violations and "email" in notice.channels:
            moment = ms_of(notice.not_before or notice.created)
            assert quiet_until(QUIET, moment) is None, (notice.kind, notice.created)
    for moment, _, mail in month.host.mailbox.taken:
        notice = by_id[mail["Message-ID"]]
        assert 0 <= moment - ms_of(notice.not_before or notice.created) <= LATE
