"""Prints each event as a line of JSON, as the conformance kit expects it."""

import asyncio
import json
import os

from canhazgpu.events import Consumer, StreamEvent


def handle(event: StreamEvent) -> None:
    """Print an event or a gap."""
    names = ("stream_id", "id", "type", "subject", "time", "data")
    print(json.dumps({name: getattr(event, name) for name in names}), flush=True)


host = os.environ["CONFORMANCE_STREAM"].partition("{")[2].partition("}")[0]
consumer = Consumer(os.environ["CONFORMANCE_REDIS"], host=host, group=os.environ["CONFORMANCE_GROUP"])
asyncio.run(consumer.run(handle))
