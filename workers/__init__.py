"""The workers that read the streams: the dispatcher, and one delivery worker per channel."""
