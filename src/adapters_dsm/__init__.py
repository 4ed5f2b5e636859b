"""KeyProvider over the REST API of Fortanix DSM. Imports nothing by itself."""
