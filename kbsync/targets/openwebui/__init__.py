"""The target `openwebui`: a knowledge base of Open WebUI."""
