"""The wire: generated stubs in `v1/`, channels, certificates and tokens, errors and statuses."""
