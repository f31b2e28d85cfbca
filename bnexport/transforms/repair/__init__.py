# SPDX-License-Identifier: Apache-2.0
"""Undoing what freezing did to a training graph."""
