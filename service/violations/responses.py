"""The types of the API response about one violation. The OpenAPI document is generated from them."""

from msgspec import Struct

from canhazgpu.events.notices import Delivery
from canhazgpu.events.silences import Silence
from canhazgpu.events.violations import Signalled, Violation
from canhazgpu.service.api.responses import ViolationResponse


class NoticeFacts(Struct, frozen=True, kw_only=True):
    """A notice about a violation, and the GPUs in it. The fields are those of the event."""

    notice: str
    kind: str
    audience: str
    user: str
    person: str | None
    created: str
    serial: int
    gpus: list[int]
    channels: list[str]
    to: str | None
    unreached: bool
    unreached_holder: str | None
    dry_run: bool


class Moment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the timeline: the type of its event, a sentence for people, and a field with its data."""

    time: str
    type: str
    sentence: str
    fact: Violation | None = None
    notice: NoticeFacts | None = None
    attempt: Delivery | None = None
    signal: Signalled | None = None
    silence: Silence | None = None


class TimelineResponse(Struct, frozen=True, kw_only=True):
    """A violation and its timeline, oldest first. `left_out`: the number of entries missing in the middle."""

    violation: ViolationResponse
    moments: list[Moment]
    left_out: int
