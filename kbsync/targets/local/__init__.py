"""The embedded knowledge base. `kbsync.targets.local.target.LocalTarget` is its door."""
