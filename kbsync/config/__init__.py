"""Settings: what they may be (`model`), how they are read (`reader`), where things lie (`places`)."""
