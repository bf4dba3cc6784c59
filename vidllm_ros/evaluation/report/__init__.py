"""One page that shows a replay, and its pictures and figures.

Start with ``page.py``; ``templates/`` has the HTML.
"""
