"""The target `gptbots`: a knowledge base on GPTBots (`kbsync.targets.gptbots.target`)."""
