# SPDX-License-Identifier: BSD-3-Clause
"""Reports with their provenance, an index of them, and the pages that quote them."""
