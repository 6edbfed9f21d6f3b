"""Settings: one typed record per section, read from a TOML file and from the environment."""
