"""The evaluator: what it sees (views), what it believes, the return it expects, and the feedback it gives."""
