"""Whom certificates and tokens are for, without any server."""
