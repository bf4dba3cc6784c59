"""The offline training companion; the node never imports it. Imports ``model`` and ``evaluation``.

Start with ``stages/recipe.py`` and ``loop.py``; ``sample.py`` is what every data source yields.
"""
