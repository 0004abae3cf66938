"""The mirrored folder: watching it, scanning it, checking one path, and stable reads."""
