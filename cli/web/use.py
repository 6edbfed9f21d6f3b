"""How much each GPU was used in each part of a period, from the service's reports; what is over is kept."""

from collections.abc import Sequence
from datetime import UTC, datetime

from canhazgpu.cli.web.feed import Service
from canhazgpu.cli.web.pages.timeline import Bucket

KEPT = 256  # Parts: a week of hours, and more.
FINAL_MS = 600_000  # After the end of a part, its sums do not change any more.


class Use:
    """Parts of time, and the GPU-seconds in them."""

    def __init__(self, service: Service) -> None:
        """Know nothing yet."""
        self._service = service
        self._known: dict[tuple[int, int], Bucket] = {}

    async def of(self, parts: Sequence[tuple[int, int]], now_ms: int) -> list[Bucket]:
        """Return the use in these parts. Raises Unreachable and Refused."""
        missing = [part for part in parts if part not in self._known]
        answers, _ = await self._service.get(*(_path(*part, now_ms) for part in missing))
        found = {
            (begin, end): Bucket(begin, end, answer["rows"])
            for (begin, end), answer in zip(missing, answers, strict=True)
        }
        buckets = [self._known.get(part) or found[part] for part in parts]
        over = {part: one for part, one in found.items() if part[1] < now_ms - FINAL_MS}
        self._known = dict(sorted({**self._known, **over}.items())[-KEPT:])
        return buckets


def _path(begin_ms: int, end_ms: int, now_ms: int) -> str:
    until = f"&until={_moment(end_ms)}" if end_ms <= now_ms else ""
    return f"/v1/report?by=gpu&since={_moment(begin_ms)}{until}"


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
