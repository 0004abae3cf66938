"""Reads documents in separate processes, which see only their own code and have no network access (ADR 8)."""
