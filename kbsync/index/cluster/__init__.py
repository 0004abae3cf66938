"""Reads, splits and embeds documents on the user's Dask cluster (ADR 28)."""
