"""The target `openai`: a vector store at OpenAI or a compatible server (`kbsync.targets.openai.target`)."""
