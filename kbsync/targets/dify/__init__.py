"""The target `dify`: a knowledge base at Dify (`kbsync.targets.dify.target`)."""
