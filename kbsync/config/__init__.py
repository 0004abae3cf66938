"""Settings: their model (`model`), the reader (`reader`), and where files are (`places`)."""
