"""Documents are read, cut and given vectors on a Dask cluster of the user's (ADR 28)."""
