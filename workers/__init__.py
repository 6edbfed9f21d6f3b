"""What reads the streams: the dispatcher of notices, and one delivery worker per channel."""
