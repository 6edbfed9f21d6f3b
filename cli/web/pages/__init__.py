"""What the page shows: one module for each address, and the frame around all of them.

In come rows of the API; out go elements. It never asks the service, and never writes HTML itself. Start with
`layout` and `now`.
"""
