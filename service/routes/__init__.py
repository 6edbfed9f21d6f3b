"""The routes of the HTTP API, one module per noun.

In come requests whose caller is known; out go responses, made by one call of the domain each. A route never
talks to a GPU and never changes state but through the domain. Start with `app`.
"""
