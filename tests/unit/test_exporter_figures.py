"""What the answer of the service becomes: the metrics of the exporter."""

from typing import Any

from prometheus_client.core import Metric

from canhazgpu.cli.exporter.figures import STATES, figures

GPU: dict[str, Any] = {
    "gpu_id": 0,
    "uuid": "GPU-0",
    "name": "NVIDIA H100",
    "status": "AVAILABLE",
    "in_use": False,
    "memory_used_mb": 45,
    "memory_total_mb": 81559,
    "utilization_percent": 7,
    "temperature_c": 31,
    "reservation": None,
    "violations": [],
}
ANSWER: dict[str, Any] = {
    "gpus": [],
    "queue": [],
    "bookings": [],
    "scan_age_s": 0.5,
    "scan_duration_s": 0.01,
    "stalled": None,
    "redis_trouble": None,
    "redis_weaknesses": [],
    "journal_weakness": None,
    "restored_at": None,
    "streams": None,
}


def values(most_users: int = 50, **facts: Any) -> dict[tuple[str, ...], float]:
    """Return the values by name and label values, in the order of the labels' names."""
    found: list[Metric] = list(figures(ANSWER | facts, most_users))
    return {
        (sample.name.removeprefix("canhazgpu_"), *(sample.labels[name] for name in sorted(sample.labels))): (
            sample.value
        )
        for family in found
        for sample in family.samples
    }


def held(index: int, user: str, reservation: str = "", kind: str = "manual") -> dict[str, Any]:
    """Return a GPU that a user holds."""
    return GPU | {
        "gpu_id": index,
        "uuid": f"GPU-{index}",
        "status": "IN_USE",
        "reservation": {"id": reservation or f"r{index}", "kind": kind, "user": user},
    }


def test_every_state_is_counted_also_those_that_no_gpu_has() -> None:
    """The number of GPUs in each state, and one 1 for each GPU."""
    found = values(gpus=[GPU, GPU | {"gpu_id": 1, "status": "ERROR"}])
    counts = {state: found["gpus", state.lower()] for state in STATES}
    assert counts == dict.fromkeys(STATES, 0) | {"AVAILABLE": 1, "ERROR": 1}
    assert [found["gpu_state", "1", state.lower(), "GPU-0"] for state in STATES] == [0, 0, 0, 0, 0, 1, 0, 0]


def test_readings_have_base_units_and_are_absent_if_there_are_none() -> None:
    """Bytes and ratios; a value that the GPU does not report is no zero."""
    found = values(gpus=[GPU, GPU | {"gpu_id": 1, "uuid": "GPU-1", "utilization_percent": None}])
    assert found["gpu_memory_used_bytes", "0", "GPU-0"] == 45 * 2**20
    assert found["gpu_utilization_ratio", "0", "GPU-0"] == 0.07
    assert ("gpu_utilization_ratio", "1", "GPU-1") not in found


def test_a_gpu_that_cannot_be_read_is_neither_idle_nor_in_use() -> None:
    """Its use is absent, and whether it is reserved is known."""
    found = values(gpus=[held(0, "alice") | {"status": "ERROR"}])
    assert ("gpu_in_use", "0", "GPU-0") not in found
    assert found["gpu_reserved", "0", "GPU-0"] == 1


def test_a_reservation_of_several_gpus_is_one() -> None:
    """It counts once as a reservation, and with all its GPUs for its user."""
    found = values(gpus=[held(0, "alice", "r1"), held(1, "alice", "r1"), held(2, "bob", kind="run")])
    assert (found["reservations", "manual"], found["reservations", "run"]) == (1, 1)
    assert (found["reserved_gpus", "manual", "alice"], found["reserved_gpus", "run", "bob"]) == (2, 1)
    assert found["reservations", "slurm"] == 0


def test_bookings_are_counted_with_their_gpus() -> None:
    """By state, with the number of GPUs; both states are there if nothing is booked."""
    assert values()["bookings", "planned"] == values()["booked_gpus", "late"] == 0
    rows = [{"count": 2, "late": False}, {"count": 4, "late": False}, {"count": 1, "late": True}]
    found = values(bookings=rows)
    assert (found["bookings", "planned"], found["bookings", "late"]) == (2, 1)
    assert (found["booked_gpus", "planned"], found["booked_gpus", "late"]) == (6, 1)


def test_only_so_many_users_are_named() -> None:
    """Those who hold the most; no GPU of the others is lost."""
    gpus = [held(0, "alice"), held(1, "bob"), held(2, "bob"), held(3, "carol"), held(4, "carol")]
    found = values(2, gpus=gpus)
    users = {labels[1]: value for (name, *labels), value in found.items() if name == "reserved_gpus"}
    assert users == {"bob": 2, "carol": 2, "other": 1}
    assert [key for key in values(0, gpus=gpus) if key[0] == "reserved_gpus"] == [
        ("reserved_gpus", "manual", "other")
    ]


def test_the_queue() -> None:
    """How many wait, for how many GPUs, and for how long the longest."""
    waiting = [{"kind": "run", "count": 4, "waiting_s": 90}, {"kind": "run", "count": 1, "waiting_s": 7}]
    found = values(queue=waiting)
    assert (found["queue_requests", "run"], found["queue_gpus",]) == (2, 5)
    assert found["queue_longest_wait_seconds",] == 90
    assert (values()["queue_requests", "run"], values()["queue_longest_wait_seconds",]) == (0, 0)


def test_violations_by_kind() -> None:
    """Each open violation once; the silenced ones are also counted apart."""
    one = {"violation": "v1", "kind": "trespass", "silenced_until": None}
    two = {"violation": "v2", "kind": "unreserved", "silenced_until": "2026-11-30T21:00:00Z"}
    found = values(gpus=[GPU | {"violations": [one, two]}])
    assert (found["violations_open", "trespass"], found["violations_open", "unreserved"]) == (1, 1)
    assert found["violations_silenced",] == 1
    assert values()["violations_open", "trespass"] == 0


def test_health() -> None:
    """What is wrong with the scan, with Redis and with the journal."""
    good, bad = (
        values(),
        values(stalled="no driver", redis_trouble="it is down", redis_weaknesses=["a"], journal_weakness="b"),
    )
    names = ("scan_stalled", "redis_up", "redis_weaknesses", "journal_ok")
    assert [good[name,] for name in names] == [0, 1, 0, 1]
    assert [bad[name,] for name in names] == [1, 0, 1, 0]
    assert good["scan_age_seconds",] == 0.5
    assert ("last_restoration_timestamp_seconds",) not in good
    assert ("scan_duration_seconds",) not in values(scan_duration_s=None)
    restored = values(restored_at="1970-01-01T00:01:00.500Z")
    assert restored["last_restoration_timestamp_seconds",] == 60.5


def test_streams_and_groups() -> None:
    """Size, trimmed entries and the lag of each group."""
    report = {
        "bytes": 500,
        "limit_bytes": 1000,
        "streams": [{"stream": "events", "entries": 3, "bytes": 500, "trimmed": 9}],
        "groups": [{"stream": "events", "group": "billing", "behind": 4, "abandoned": "unread"}],
    }
    found = values(streams=report)
    assert found["stream_entries", "events"] == 3
    assert found["stream_trimmed_entries_total", "events"] == 9
    assert found["consumer_group_lag_entries", "billing", "events"] == 4
    assert found["consumer_group_abandoned", "billing", "events"] == 1
    assert found["streams_limit_bytes",] == 1000
    assert not [key for key in values() if key[0].startswith("consumer_group")]


def test_names_from_others_stay_on_one_line() -> None:
    """A name of a card, of a group or of a user is printable and short."""
    hostile = "a\nb\u202e" + "x" * 500
    group = {"stream": "events", "group": hostile, "behind": 0, "abandoned": None}
    report = {"bytes": 0, "limit_bytes": 0, "streams": [], "groups": [group]}
    found = values(gpus=[held(0, hostile) | {"name": hostile}], streams=report)
    assert all(len(text) <= 64 and text.isprintable() for key in found for text in key[1:])


def test_names_that_look_the_same_are_one_value() -> None:
    """Prometheus refuses everything if a value is there twice."""
    long = "x" * 100
    group = {"stream": "events", "behind": 0, "abandoned": None}
    groups = [group | {"group": long + end} for end in "ab"]
    report = {"bytes": 0, "limit_bytes": 0, "streams": [], "groups": groups}
    gpus = [held(0, long + "a"), held(1, long + "b")]
    for most_users in (0, 1, 50):
        families = figures(ANSWER | {"gpus": gpus, "streams": report}, most_users)
        keys = [(one.name, *one.labels.items()) for family in families for one in family.samples]
        assert len(set(keys)) == len(keys)


def test_a_divided_gpu_counts_as_its_instances() -> None:
    """It is partitioned whoever holds it, unless it fails, and only its instances have levels."""
    card = held(0, "alice", "r1") | {"instances": [1024]}
    found = values(gpus=[card, held(1024, "alice", "r1"), GPU | {"gpu_id": 1, "uuid": "GPU-1"}])
    assert {state: found["gpus", state] for state in ("in_use", "available", "partitioned")} == {
        "in_use": 1,
        "available": 1,
        "partitioned": 1,
    }
    assert found["gpu_state", "0", "partitioned", "GPU-0"] == 1
    assert found["gpu_reserved", "0:0", "GPU-1024"] == 1
    assert ("gpu_memory_total_bytes", "0:0", "GPU-1024") in found
    for name in ("gpu_reserved", "gpu_in_use", "gpu_memory_total_bytes"):
        assert (name, "0", "GPU-0") not in found
    assert found["reserved_gpus", "manual", "alice"] == 1
    found = values(gpus=[card | {"status": "ERROR"}])
    assert (found["gpus", "error"], found["gpus", "partitioned"]) == (1, 0)
