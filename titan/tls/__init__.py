"""Who is who: identities, the PEM files that prove them, what a certificate or a token says, and
which of them count no more. `titan.rpc` makes connections of it, `titan.certs` the files.
"""
