"""How an episode truly ended: what was attempted, what works, and whether the tools that say so are genuine."""
