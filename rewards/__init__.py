"""Who judges: views (sensors), beliefs, returns, evaluators, preferences, belief annotations."""
