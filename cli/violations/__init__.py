"""Commands for violations: `violations` and `silence`.

In come filters; out go tables, time lines and silences. They never read the streams themselves: the service
does. Start with `listing`.
"""
