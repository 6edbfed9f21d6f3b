"""Calls the service as the user this process runs as: a demand in JSON a line, its answer a line."""

import json
import sys
import threading
import time
from typing import Any

from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.client.reservations import obtain, post

ONE_AT_A_TIME = threading.Lock()


def main() -> None:
    """Take demands until there are none."""
    client = Client(sys.argv[1])
    for line in sys.stdin:
        threading.Thread(target=_call, args=(client, json.loads(line)), daemon=True).start()


def _call(client: Client, demand: dict[str, Any]) -> None:
    began = int(time.time() * 1000)
    answer: dict[str, Any] = {"number": demand["number"], "began": began}
    try:
        if "release" in demand:
            post(client, "/v1/reservations/release", {"ids": demand["release"]})
        else:
            held = obtain(client, demand["reserve"], wait=demand["wait"])
            answer |= {"id": held.id, "gpus": held.gpus}
    except Refused as refused:
        answer["refused"] = str(refused)
    except Unreachable as lost:
        answer["lost"] = str(lost)
    answer["ended"] = int(time.time() * 1000) + 1
    with ONE_AT_A_TIME:
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
