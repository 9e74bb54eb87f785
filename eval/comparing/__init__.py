"""Verdicts and differences relative to a reference policy."""
