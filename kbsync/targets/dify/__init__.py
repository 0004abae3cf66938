"""The knowledge API of Dify. `kbsync.targets.dify.target.DifyTarget` is the target."""
