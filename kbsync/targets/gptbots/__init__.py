"""The target `gptbots`: a knowledge base at GPTBots (`kbsync.targets.gptbots.target`)."""
