# SPDX-License-Identifier: BSD-3-Clause
"""Operators of other frameworks and runtimes, each in an environment of its own.

`adapters/NAME.py` calls one of them; it needs NumPy and that framework, not torch. `environments`
installs it, `serve` runs it in a process of its own, `process` talks to that process, and `backend`
makes it a backend of the suites.
"""
