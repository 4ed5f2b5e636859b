"""KMS v2 messages, the unix socket and the server. Imports nothing by itself."""
