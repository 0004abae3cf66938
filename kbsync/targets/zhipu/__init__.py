"""The knowledge API of Zhipu BigModel. `kbsync.targets.zhipu.target.ZhipuTarget` is the target."""
