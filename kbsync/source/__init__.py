"""The mirrored folder: watching it, scanning it, checking single paths, and stable reads."""
