"""What an evaluator believes of a view: by table, by counts, by a language model."""
