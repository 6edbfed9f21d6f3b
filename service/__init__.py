"""The daemon's parts: GPU providers, attribution, scanner, embedded Redis and the API."""
