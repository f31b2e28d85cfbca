# SPDX-License-Identifier: Apache-2.0
"""Exported graphs where people deploy them; `scripts/compat` runs it."""
