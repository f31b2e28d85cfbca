# SPDX-License-Identifier: Apache-2.0
"""Ops that older TensorFlows know."""
