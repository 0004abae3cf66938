"""The embedded knowledge base: an index in one folder on this machine."""
