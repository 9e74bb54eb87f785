"""devnull inside other people's tools, a file a tool: the outermost room."""
