"""Run folders: written, read, scored, reported; and the steps that commands share."""
