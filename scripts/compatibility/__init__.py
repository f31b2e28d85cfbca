"""Exported graphs where people deploy them; `scripts/compat` runs it."""
