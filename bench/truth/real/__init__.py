"""The smaller part with real processes, users, daemon and Redis; the oracle is that of the generated lab."""
