"""What the API answers about one violation, as types: OpenAPI is made from them."""

from msgspec import Struct

from canhazgpu.events.notices import Delivery
from canhazgpu.events.silences import Silence
from canhazgpu.events.violations import Signalled, Violation
from canhazgpu.service.answers import ViolationAnswer


class NoticeFacts(Struct, frozen=True, kw_only=True):
    """A notice that spoke of a violation, and of which GPUs; the fields mean what they do in the event."""

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
    """One thing that happened: its event's type, a sentence for people, and its data in one field more."""

    time: str
    type: str
    sentence: str
    fact: Violation | None = None
    notice: NoticeFacts | None = None
    attempt: Delivery | None = None
    signal: Signalled | None = None
    silence: Silence | None = None


class TimelineAnswer(Struct, frozen=True, kw_only=True):
    """A violation and what happened to it, oldest first; `left_out`: how much of the middle is missing."""

    violation: ViolationAnswer
    moments: list[Moment]
    left_out: int
