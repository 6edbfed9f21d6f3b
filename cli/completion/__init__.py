"""Tab completion: scripts for the shells, and the words that they offer.

In come the words of an unfinished command line; out go words that make sense next. It never prints an error,
and never waits long for the service. Start with `candidates`.
"""
