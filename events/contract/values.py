"""The fields of events that have one of a few values. A later version can add values."""

from collections.abc import Mapping

from canhazgpu.events.gpu import EVIDENCE
from canhazgpu.events.notices import ADDRESS, ADMINS, HOLDER, OFFENDER
from canhazgpu.events.reservations import MANUAL, RUN, SCHEDULERS

GPU_STATES = ("ok", "error", "unknown")
RESERVATION_KINDS = (RUN, MANUAL, *sorted(SCHEDULERS))
RELEASE_REASONS = (
    *("exited", "released", "expired", "idle", "lost", "no_show", "unmanaged", "undelivered", "vanished"),
    *("admin", "stale"),
)
LEAVE_REASONS = ("cancelled", "gone", "timed-out", "impossible")
OBSTACLES = ("held", "in_use", "drained", "error", "unknown", "unmanaged", "divided")
VIOLATION_KINDS = ("unreserved", "trespass", "overstaying")
CLOSE_REASONS = ("stopped", "reserved", "exempted", "vanished")
VIOLATION_NOTICES = ("opened", "changed", "reminder", "resolved", "terminate")
RESERVATION_NOTICES = ("granted", "expiring", "idle", "released", "unreserved", "timeout")
BOOKING_NOTICES = (
    *("booking-reminder", "booking-begun", "booking-late", "booking-missed"),
    *("maintenance-planned", "maintenance-reminder", "maintenance-begun"),
)
FAILURE_NOTICES = (
    *("stalled", "resumed", "gpu-failed", "gpu-recovered", "channel-failing", "channel-recovered"),
)
NOTICE_KINDS = (
    *(*VIOLATION_NOTICES, *RESERVATION_NOTICES, *BOOKING_NOTICES, *FAILURE_NOTICES),
    *("digest", "test"),
)
AUDIENCES = (OFFENDER, HOLDER, ADMINS, ADDRESS)
OUTCOMES = (
    *("delivered", "unproven", "retry", "failed", "refused", "stuck", "gone", "skipped", "nobody", "dry-run"),
)
STREAMS = ("events", "violations", "ledger", "notices", "deliveries")

VALUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "GpuSummary": {"state": GPU_STATES},
    "Reservation": {"kind": RESERVATION_KINDS, "reason": RELEASE_REASONS},
    "Booking": {"reason": ("late", "off")},
    "Obstacle": {"why": OBSTACLES},
    "Request": {"kind": RESERVATION_KINDS, "reason": LEAVE_REASONS},
    "Violation": {"kind": VIOLATION_KINDS, "evidence": EVIDENCE, "reason": CLOSE_REASONS},
    "ProcessUse": {"evidence": EVIDENCE},
    "Notice": {"kind": NOTICE_KINDS, "audience": AUDIENCES},
    "Delivery": {"kind": NOTICE_KINDS, "audience": AUDIENCES, "outcome": OUTCOMES},
    "Signalled": {"signal": ("INT", "TERM", "KILL")},
    "GroupAbandoned": {"stream": STREAMS, "reason": ("unread", "memory")},
    "GroupResumed": {"stream": STREAMS},
}
