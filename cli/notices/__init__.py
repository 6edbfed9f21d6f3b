"""Commands for what happened and who was notified: `notify`, `deliveries`, `deadletters`, `events` and `log`.

In come filters, notices to preview and the files of the audit log; out go lines for people or JSON. They
never change a notice or the log. Start with `notify`.
"""
