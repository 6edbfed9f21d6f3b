"""Checks a consumer: `python -m canhazgpu.events.conformance REDIS_URL COMMAND…`; exit code 1 if it fails."""

import sys

from redis.exceptions import RedisError

from canhazgpu.events.conformance.kit import Kit

USAGE = "usage: python -m canhazgpu.events.conformance REDIS_URL COMMAND [ARGUMENT]…"
LEAST = 3


def main() -> None:
    """Print the differences, or that there are none."""
    if len(sys.argv) < LEAST:
        sys.exit(USAGE)
    try:
        with Kit(sys.argv[1], sys.argv[2:]) as kit:
            found = kit.differences()
    except (RedisError, OSError, ValueError) as error:
        sys.exit(f"Error: {' '.join(str(error).split())}")
    for line in found:
        print(line)  # noqa: T201 - the result
    if found:
        sys.exit(1)
    print("the consumer conforms: every type, after a kill, and with a gap")  # noqa: T201 - the result


if __name__ == "__main__":
    main()
