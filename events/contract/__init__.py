"""What the schemas of the events say about each field: its meaning, its values, and an example.

In come the structs of the events; out go text and values for their JSON Schemas. It never reads or writes a
stream. Start with `descriptions`.
"""
