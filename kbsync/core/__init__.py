"""Pure rules: values, selection, settling and planning. Nothing imported here can block or access a disk."""
