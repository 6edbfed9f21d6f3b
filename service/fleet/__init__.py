"""Shows all hosts of the fleet: reads the copies of their state on the fleet's Redis.

In come the copies; out go GPUs, queues, violations and reservations by host. It is imported only if the host
is in a fleet, never writes, and decides nothing about this host. Start with `mirror_reader`.
"""
