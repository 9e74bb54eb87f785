"""Claims played: jobs, the ledger, and what it shows."""
