"""Proof that a graph answers right, whoever made it."""
