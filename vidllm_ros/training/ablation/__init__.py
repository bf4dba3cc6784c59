"""The paper's ablations on procedural rooms. Start with ``ablate.py``."""
