"""Understands plain command lines of the commands that start often, without the command framework.

In come the words of a command line; out go a function and its arguments, or nothing if the line is the
framework's. It never defines an option itself: the table is generated. Start with `recognise`.
"""
