# SPDX-License-Identifier: Apache-2.0
"""Batch norms: forms, statistics, the averages that track them, folding."""
