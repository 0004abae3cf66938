"""The HTTP layer of all remote targets. It sends requests carefully, and doesn't trust responses."""
