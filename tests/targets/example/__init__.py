"""A target for a service that does not exist: what `docs/writing-a-target.md` goes through."""
