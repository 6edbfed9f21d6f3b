"""`canhazgpu top`: a live view of the host on the whole terminal.

In come the answers of the service and the keys of the user; out go lines for the terminal, and requests for
the user's own reservations. It never writes to a terminal but through `screen`. Start with `top`.
"""
