"""One episode in figures, and every metric of many."""
