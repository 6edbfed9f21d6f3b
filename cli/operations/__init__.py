"""Commands that run and maintain the service: `serve`, `worker`, `config`, `backup`, `restore` and `redis`.

In come settings and files; out go running processes, archives and complaints about settings. They never
change state that a running service owns. Start with `serve`.
"""
