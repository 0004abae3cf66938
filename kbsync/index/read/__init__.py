"""Readers of formats: bytes in, Markdown and pieces out."""
