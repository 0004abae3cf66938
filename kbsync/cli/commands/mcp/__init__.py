"""`kbsync mcp`: a Model Context Protocol server that lets assistants search the mirrors."""
