"""Readers for file formats. They turn bytes into Markdown."""
