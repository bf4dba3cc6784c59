"""The reasoning branch: 3D patches, language model and grounding (paper section 3.3).

Start with ``language.py`` for answers and ``grounding.py`` for boxes. Imports the outputs of ``model``, nothing of the
reconstruction branch.
"""
