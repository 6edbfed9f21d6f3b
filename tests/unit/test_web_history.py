"""The last half hour of each GPU."""

from typing import Any

from canhazgpu.cli.web.history import PERIOD, SAMPLES, History, Sample


def _gpu(uuid: str, percent: int | None, used: int | None = 40, total: int | None = 80) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "utilization_percent": percent,
        "memory_used_mb": used,
        "memory_total_mb": total,
    }


def test_a_sample_is_the_mean_of_its_period() -> None:
    """Readings within a period become one sample."""
    history = History()
    history.add([_gpu("a", 0)], 0)
    history.add([_gpu("a", 20)], PERIOD / 2)
    history.add([_gpu("a", 40)], PERIOD)
    assert history.of("a") == (Sample(0.0, 0.5), Sample(0.3, 0.5))


def test_what_a_card_does_not_report_is_not_known() -> None:
    """A missing reading is a gap, not a zero."""
    history = History()
    history.add([_gpu("a", None, None), _gpu("b", 10, 5, None)], 0)
    assert history.of("a") == (Sample(None, None),)
    assert history.of("b") == (Sample(0.1, None),)


def test_memory_is_bounded() -> None:
    """Only the newest samples are kept, and none of a GPU that is gone."""
    history = History()
    for turn in range(3 * SAMPLES):
        history.add([_gpu("a", 1), _gpu(f"other-{turn}", 1)], turn * PERIOD)
    assert len(history.of("a")) == SAMPLES
    assert history.of("other-0") == ()
    assert len(history.of(f"other-{3 * SAMPLES - 1}")) == 1
