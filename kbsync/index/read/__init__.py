"""Format readers, which turn bytes into Markdown."""
