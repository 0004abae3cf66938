"""Knowledge bases of Open WebUI."""
