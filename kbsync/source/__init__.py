"""The disk: watching, scanning, checking one path, stable reads."""
