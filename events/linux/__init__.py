"""Facts about processes, users and groups of this host, as the kernel and the user database give them.

In come PIDs, uids and names; out go facts such as a process's identity, a user's groups or the
administrators. It never reads or writes Redis, and it never decides whom a GPU belongs to. Start with
`processes`.
"""
