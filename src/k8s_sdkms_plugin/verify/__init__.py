"""``verify``: what etcd holds, by which key, and whether it opens.

``etcd`` and ``snapshot`` read objects, ``stored`` takes each apart, ``opening`` asks a
plugin to open it, ``findings`` judges and ``report`` tells. No plaintext leaves
``opening``. Nothing here runs in the daemon.
"""
