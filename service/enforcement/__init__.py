"""Enforcement: only the holder of a GPU can open its device file. Only `switch` is imported where it is off.

In come the content of the journal, the numbers of the device files, and who may open all of them; out go
their ACLs. It never decides who gets a GPU, and it never closes what is already open. Start with
`enforcement`.
"""
