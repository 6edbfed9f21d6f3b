"""The routes of events.

In come a stream and what a client wants of it; out go lines of JSON, the past ones first, then new ones. They
never write. Start with `event_stream`.
"""
