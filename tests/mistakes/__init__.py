"""Mistakes made on purpose, to check that the tests notice them (`make mistakes`)."""
