# SPDX-License-Identifier: Apache-2.0
"""Statistics of batch norms, computed anew from data."""
