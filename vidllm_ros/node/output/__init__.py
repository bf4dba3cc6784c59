"""To the middleware: every message the node publishes is built here.

Start with ``publishers.py``; ``conversions.py`` holds what both directions share.
"""
