"""What servers count, and how Prometheus gets it.

`histogram.py` and `family.py` are plain numbers, which pure parts may use; `server.py` answers
`GET /metrics`, and `exposition.py`, which it loads, alone knows prometheus_client, an extra.
"""
