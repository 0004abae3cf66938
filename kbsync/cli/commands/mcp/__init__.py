"""`kbsync mcp`: a Model Context Protocol server, by which assistants search what is mirrored."""
