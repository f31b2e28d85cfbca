# SPDX-License-Identifier: Apache-2.0
"""Comparing an exported graph with a reference that ran."""
