"""What commands show of all hosts of the fleet.

In come names of hosts; out go lines, tables and JSON by host. It asks this host's service, never the other
hosts and never Redis. Start with `hosts`.
"""
