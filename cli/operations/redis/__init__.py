"""`canhazgpu redis`: what administrators need who have a Redis of their own.

In come the settings; out go rights for Redis' ACL, and the data of a host in another Redis. It never changes
a reservation. Start with `migrate`.
"""
