"""Watches a mirrored folder, scans it, checks single paths, and takes stable reads of its files."""
