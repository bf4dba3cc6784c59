"""ScanNet: its files, its objects, and the question and description sets that annotate it.

Start with ``scans.py``, then ``annotations.py``; each annotation set has a file of its own.
"""
