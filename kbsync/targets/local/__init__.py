"""The built-in knowledge base: an index in one folder on this machine."""
