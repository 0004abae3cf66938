"""Settings: what they may be (`model`), how they are read (`loader`), where things lie (`places`)."""
