"""A made-up fleet, so that pictures show the page of all hosts."""

import random
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from support.made_up_lab import GPUS, at

HOSTS = 14


def hosts(count: int) -> list[dict[str, Any]]:
    """Return the summaries of all hosts of a fleet, of which two are away."""
    dice, found = random.Random(11), []
    for number in range(1, count + 1):
        away = number in (5, count)
        used = dice.randint(0, GPUS)
        free = 0 if away else GPUS - used
        states = {"IN_USE": used, "AVAILABLE": free, "UNKNOWN": GPUS - used - free}
        if number % 4 == 3 and free:
            states |= {"AVAILABLE": free - 1, "UNRESERVED": 1}
        counts = {"gpus": states, "waiting": dice.choice((0, 0, 0, 2, 5)), "violations": int(number % 4 == 3)}
        found.append(
            {
                "host": f"gpu{number}",
                "seen": at(-3.2 if away else -0.0005),
                "seen_s": 11_520 if away else 2,
                "away": "no sign of life for 3h 12m 0s" if away else None,
                "counts": counts,
            }
        )
    return found


async def _hosts(request: Request) -> Response:
    del request
    lines = b"".join(msgspec.json.encode(one) + b"\n" for one in hosts(HOSTS))
    return Response(lines, media_type="application/jsonl")


ROUTES = [Route("/v1/fleet/status", _hosts), Route("/v1/fleet/summary", _hosts)]
