"""Readers of formats, which turn bytes into Markdown and pieces."""
