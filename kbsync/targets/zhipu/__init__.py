"""The target `zhipu`: a knowledge base at Zhipu BigModel (`kbsync.targets.zhipu.target`)."""
