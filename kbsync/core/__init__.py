"""Pure rules: values, selection, settling, planning. Imports nothing that can block or access a disk."""
