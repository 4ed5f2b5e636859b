"""The contract-test kit: points 105 checks at the socket of any KMS v2 plugin.

``catalogue`` lists the checks, ``checks`` holds one small function for each,
``context`` is what such a function is given, ``api_server`` behaves as kube-apiserver
does, and ``runner`` runs what was selected. It knows nothing of our own plugin but the
classes of the KMS v2 messages.
"""
