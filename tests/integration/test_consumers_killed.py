"""Workers of the consumer library that are killed all the time, in processes of their own."""

from pathlib import Path

import pytest

from bench.consumer_worker import RECORD
from bench.consumers import GROUPS, Judgement, judge, survive

EVENTS = 20_000
LEAST = 1_500  # Events between two kills of a worker, so that their number depends on no speed.
LEAST_KILLS = 5


def judged(folder: Path, numbers: list[int]) -> Judgement:
    """Return the judgement of a group that handled these of five events."""
    notes = folder / "notes"
    notes.write_bytes(b"".join(map(RECORD.pack, numbers)))
    return judge(notes, 20)


@pytest.mark.slow(60)
@pytest.mark.timeout(600)
def test_three_groups_lose_nothing_and_keep_the_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every group handles every event, and those of a GPU in their order, while workers are killed."""
    kills, _, judgements = survive(tmp_path_factory.mktemp("k"), EVENTS, (0.0, 0.0), least=LEAST)
    assert kills >= LEAST_KILLS
    assert [(one.lost, one.misplaced) for one in judgements] == [(0, 0)] * len(GROUPS)


def test_the_judge_sees_what_is_wrong(tmp_path: Path) -> None:
    """An event that is lost, repeated, or handled after a later one of its GPU is counted."""
    right = list(range(1, 21))
    one = judged(tmp_path, right)
    assert (one.lost, one.repeated, one.misplaced) == (0, 0, 0)
    one = judged(tmp_path, [*right[:4], *right[2:15], *right[16:]])
    assert (one.lost, one.repeated, one.misplaced) == (1, 2, 0)
    one = judged(tmp_path, [*right[:2], 11, *right[2:10], *right[11:]])
    assert (one.lost, one.repeated, one.misplaced) == (0, 0, 1)
