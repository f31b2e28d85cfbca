# SPDX-License-Identifier: Apache-2.0
"""Computing constants ahead of time, batch norms among them."""
