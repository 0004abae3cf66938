"""Reads documents in separate processes, which can access only their own code, and no network (ADR 8)."""
