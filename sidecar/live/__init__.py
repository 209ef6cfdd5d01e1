"""Live settings: the parent's way from a changed file to groups that go on with it.

``watched`` notices, ``validate`` is the short-lived process that judges (the only one here that may import config/),
``trial`` runs it, ``diff`` tells what follows, ``reload`` has it done.
"""
