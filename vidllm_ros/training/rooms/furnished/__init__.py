"""Rooms with modelled furniture, photographs as textures and soft light; assets come from a Debian package.

Start with ``scene.py``; ``assets.py`` fetches furniture and textures, whose licences it lists.
"""
