"""Reads, cuts and embeds documents on a Dask cluster of the user's (ADR 28)."""
