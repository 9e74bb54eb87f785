"""The feedback an evaluator gives: comparisons, ratings, belief annotations, datasets of them, and reward inference."""
