"""Tells a person, by a command or by a POST, that one is needed."""
