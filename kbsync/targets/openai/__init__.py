"""Vector stores of OpenAI. `kbsync.targets.openai.target.OpenaiTarget` is the target."""
