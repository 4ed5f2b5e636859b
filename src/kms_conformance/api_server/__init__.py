"""A model of kube-apiserver's side of KMS v2: its rules, its stored form, its states.

``rules`` validates what a plugin answers, ``stored`` is what stands in etcd,
``dek_cache`` keeps opened seeds for a day, and ``model`` puts them together.
"""
