"""The target `openai`: a vector store on OpenAI or a compatible server (`kbsync.targets.openai.target`)."""
