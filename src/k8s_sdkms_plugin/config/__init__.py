"""The configuration: the Go plugin's JSON file, and what we added to it.

``model`` has the settings, ``loading`` reads and checks them, ``schema`` and ``docs``
are generated from the same classes.
"""
