"""``render``: the files that a node needs, made from one set of settings.

``settings`` reads them and ``site`` checks them against each other; each other module
is one kind of file, as text. Nothing here runs in the daemon.
"""
