"""Mistakes made on purpose: whether the tests notice each of them (`make mistakes`)."""
