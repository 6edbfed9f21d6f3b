"""GPU providers: where readings come from.

In come answers of a driver, or a scenario file; out go readings of every GPU, or a `ProviderError`. A
provider never knows users or reservations, and it never blocks longer than its deadline. Start with
`provider`, the interface.
"""
