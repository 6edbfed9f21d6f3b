"""`canhazgpu exporter`: serves the metrics of this host to Prometheus.

In come answers and events of the service, over its socket like those of any command; out go metrics, over
HTTP. It never changes anything, and it goes on while the service is away. Start with `command`.
"""
