"""Vectors of texts, made on this machine."""
