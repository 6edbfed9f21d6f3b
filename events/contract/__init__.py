"""What the schemas of the events say about each field: its meaning, its values, and an example.

The structs of the events come in, and text for their JSON Schemas goes out. Nothing here reads or writes a
stream.
"""
