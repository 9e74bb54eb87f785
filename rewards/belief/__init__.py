"""How an evaluator makes a belief of a view: by the paper's table, by counts, or by a language model."""
