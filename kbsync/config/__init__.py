"""The settings: their model (`model`), their reader (`reader`), and where files are (`places`)."""
