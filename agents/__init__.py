"""Who acts: the action protocol, agents, and the rollout engine."""
