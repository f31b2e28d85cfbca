# SPDX-License-Identifier: Apache-2.0
"""Eight-bit and rounded weights and activations."""
