"""The disk: watching, scanning, looking at one path, stable reads."""
