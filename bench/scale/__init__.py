"""A thousand hosts on a real server, and on a Cluster that loses a node. Start with `measurements`."""
