# SPDX-License-Identifier: Apache-2.0
"""Repairs of malformed GraphDefs, so that they open."""
