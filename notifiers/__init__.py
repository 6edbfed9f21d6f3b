"""The channels, which render and deliver notices. They contain no policy and do not use Redis."""
