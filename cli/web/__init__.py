"""`canhazgpu web`: a page that shows this host in a browser, and never changes anything.

In come answers of the service's API, read over its socket as any user can; out go HTML and events for
browsers. It has no rights of its own, keeps nothing but the last half hour of readings in memory, and shows
no mail address. Start with `web`, then `server`.
"""
