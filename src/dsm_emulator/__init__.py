"""A local DSM: real REST, real TLS, real AES-GCM. Imports none of our packages."""
