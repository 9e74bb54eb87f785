"""From the frames of a supervisor to a `CommandResult`."""
