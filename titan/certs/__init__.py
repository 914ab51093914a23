"""A small certificate authority, for clusters that have no other.

Begin with `layout.py`, what lies where in a TLS directory; `authority.py` makes certificates,
`issued.py` knows which there are and revokes them. Servers and clients need none of it: what
they read are PEM files, whoever made them.

All but `layout.py` need the package cryptography, which is an extra: call `check_installed` before
they are imported.
"""

from titan.errors import TitanError


def check_installed() -> None:
    """Raises TitanError where cryptography is not installed."""
    try:
        import cryptography  # noqa: F401, PLC0415 - optional, and only here
    except ImportError as error:
        raise TitanError(
            "certificates need cryptography: pip install 'titan-scheduler[tls]'"
        ) from error
