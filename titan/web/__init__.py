"""`titan web`: the cluster in a browser, and the same as JSON. A client like any other.

Read `app.py` first: which paths there are. `viewers.py` says who looks and what he may do,
`guard.py` keeps out what no browser of his sends. `reading.py` answers questions and `changing.py`
does what is asked for, both by calls of `titan.client`; `live.py` watches the manager once for
all who look, of which `recent.py` remembers what each has yet to be told. `streams.py` are
server-sent events, `server.py` is the process.
"""
