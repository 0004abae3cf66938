"""The mirrored folder: watching it, scanning it, checking single paths in it, and stable reads."""
