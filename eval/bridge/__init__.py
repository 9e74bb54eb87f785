"""From transcripts back to the theory: the tabular problem of a run, estimated, solved and compared with its arms."""
