"""The world: tasks, images, runtimes, sessions, transcripts, outcomes. Imports no other room."""
