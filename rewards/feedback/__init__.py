"""What an evaluator says: comparisons, ratings, annotations, and the data sets made of them."""
