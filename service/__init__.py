"""The parts of the daemon: GPU providers, attribution, scanner, embedded Redis and the API."""
