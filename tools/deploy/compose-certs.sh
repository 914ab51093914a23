#!/bin/sh
# compose-certs.sh DIR: makes the CA in DIR/ca and the managers' key for secrets once, and everybody's
# certificate anew each time.
set -eu
tls=$1
export TITAN_TLS_DIR="$tls/ca"

[ -e "$tls/ca/ca.pem" ] || titan certs init --cluster compose --admin admin
titan certs issue manager --host manager1 --host manager2 --out "$tls/managers"
# What it sealed nothing else opens: another one is never written over it.
if [ ! -e "$tls/managers/secrets.key" ]; then
    (umask 077; head -c 32 /dev/urandom | base64 > "$tls/managers/secrets.key.new")
    mv "$tls/managers/secrets.key.new" "$tls/managers/secrets.key"
fi
titan certs issue worker w1 --out "$tls/w1"
titan certs issue worker w2 --out "$tls/w2"
# `titan web` serves as the first and asks as the second.
titan certs issue manager web --host localhost --out "$tls/web/manager"
titan certs issue user web --out "$tls/web/user"
titan certs issue user admin --admin --out "$tls/admin"
titan certs issue user prometheus --out "$tls/prometheus"
# Whom `titan certs revoke` has named is let in nowhere.
if [ -e "$tls/ca/revoked.txt" ]; then
    for each in managers w1 w2 web; do cp "$tls/ca/revoked.txt" "$tls/$each/"; done
fi
# The accounts of both images.
if [ "$(id -u)" = 0 ]; then
    for each in managers w1 w2 web admin; do chown -R 10001:10001 "$tls/$each"; done
    chown -R 65534:65534 "$tls/prometheus"
fi
