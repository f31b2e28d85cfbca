# SPDX-License-Identifier: Apache-2.0
"""Removing and renaming, with the answers unchanged."""
