"""The command line: each command parses its options, makes one call and prints the result.

In come words; out go lines on standard output, errors on standard error and an exit code. It never imports
the service for a command that only asks it. Start with `commands`, the table of all commands.
"""
