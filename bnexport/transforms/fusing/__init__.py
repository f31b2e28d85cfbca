# SPDX-License-Identifier: Apache-2.0
"""Several ops computed by one."""
