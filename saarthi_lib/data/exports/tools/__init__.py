"""One module for each tool: recognizes its files, and yields their rows."""
