"""How commands meet the person: arguments, complaints, progress, the replay player."""
