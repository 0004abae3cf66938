"""The target `ragflow`: a dataset on a RAGFlow server (`kbsync.targets.ragflow.target`)."""
