"""The target `dify`: a knowledge base on Dify (`kbsync.targets.dify.target`)."""
