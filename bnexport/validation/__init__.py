# SPDX-License-Identifier: Apache-2.0
"""Proof that a graph answers right, whoever made it."""
