"""Pure rules: values, selection, settling, planning. Imports nothing that can wait or touch a disk."""
