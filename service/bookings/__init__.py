"""Bookings: GPUs that are promised to a user for a window of time.

In come requests for a window; out go bookings, and when their time has come, reservations. It never decides
what is promised: the scripts do, with the rule in `service/lua/promises.lua`. Start with `bookings`.
"""
