"""What a person looks at: the HTML report, the timeline of an episode, text made harmless."""
