"""From transcripts back to the theory: a run as a tabular problem, solved."""
