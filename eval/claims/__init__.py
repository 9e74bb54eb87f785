"""Claims: sentences that a run can prove wrong, and what its episodes say of them."""
