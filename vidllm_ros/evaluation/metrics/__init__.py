"""Numbers from predictions and truth, as the published evaluations compute them. No files, no networks.

Each file is one protocol: ``trajectory.py`` has ATE and RPE, ``depth.py`` AbsRel and delta, ``poses.py`` RRA and RTA,
``grounding.py`` boxes, ``captions.py`` and ``qa.py`` texts.
"""
