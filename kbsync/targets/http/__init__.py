"""The HTTP layer of all remote targets: it sends requests carefully, and doesn't trust responses."""
