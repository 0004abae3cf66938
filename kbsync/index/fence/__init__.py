"""Parsers in processes of their own, which may neither open files nor talk to anyone."""
