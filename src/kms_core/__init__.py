"""The domain of a Kubernetes KMS v2 plugin, without I/O."""
