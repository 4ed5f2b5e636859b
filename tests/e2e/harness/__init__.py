"""The programs of the end-to-end tests, each a small class, and what they store.

``program`` starts and stops processes, ``etcd``, ``kube`` and ``plugin`` know their
own, ``stored`` reads and writes the encrypted objects that kube-apiserver keeps,
``go_plugin`` makes those of our predecessor, and ``go_plugin_server`` stands in for it.
``relay`` is the way to DSM, which ``outage`` closes under several clusters; ``writer``
is one user of one. ``guide`` and ``place`` are where
the guides' commands are run.
"""
