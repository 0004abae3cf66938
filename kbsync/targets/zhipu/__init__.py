"""The target `zhipu`: a knowledge base on Zhipu BigModel (`kbsync.targets.zhipu.target`)."""
