"""Whether a failure was kept off the terminal: constructs of the command, its trace, the replay oracle."""
