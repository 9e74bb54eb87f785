"""Exact partially observed decision problems (numpy only). Imports no other room."""
