"""The HTTP API of RAGFlow. `kbsync.targets.ragflow.target.RagflowTarget` is the target."""
