"""The knowledge API of GPTBots. `kbsync.targets.gptbots.target.GptbotsTarget` is the target."""
