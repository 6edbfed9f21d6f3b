"""The wording of notices, as plain text and as an HTML page.

In comes a notice; out go its subject, its lines of text and its page, made from one and the same content.
It never sends anything, and it never lets foreign text through unchecked. Start with `describe`.
"""
