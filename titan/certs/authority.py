"""The certificate authority: it makes keys and certificates, as RFC 5280 has them.

All keys are on the curve P-256. Whom a certificate is for stands in a URI among its alternative
names (`titan.tls.identity`); servers have DNS names or addresses beside it.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from titan import paths
from titan.certs import layout
from titan.certs.issued import find_worker_alike
from titan.certs.layout import Credentials
from titan.errors import Refused, TitanError
from titan.tls.identity import WORKER_DOMAIN, Identity, Role, check_name, parse_uri, worker_host
from titan.tls.revoked import format_serial

CA_DAYS: Final = 3650
# A certificate counts from a little before it was made: other machines' clocks may be behind.
_EARLIER: Final = timedelta(minutes=5)
# RFC 5280, A.1: ub-common-name-length.
_COMMON_NAME_MAX: Final = 64
# RFC 1123, 2.1, and underscores, which hosts have all the same. No wildcards: it is one host.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_USAGES: Final = {
    # They call each other, so each is server and client.
    Role.MANAGER: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    Role.WORKER: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    Role.USER: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Role.ADMIN: (ExtendedKeyUsageOID.CLIENT_AUTH,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new certificate, with the key that nobody else has."""

    identity: Identity
    serial: int
    ends: float
    """In Unix seconds."""
    credentials: Credentials


class Authority:
    """A CA with its key. `create` and `load` make it."""

    def __init__(
        self,
        directory: Path,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        ca_pem: bytes,
    ) -> None:
        self._directory = directory
        self._certificate = certificate
        self._key = key
        # All of ca.pem: others may trust CAs besides this one, such as the one that replaces it.
        self._ca_pem = ca_pem
        self.cluster = _cluster_of(certificate)

    @property
    def ends(self) -> float:
        """When the CA's certificate expires, in Unix seconds."""
        return self._certificate.not_valid_after_utc.timestamp()

    def issue(
        self, role: Role, name: str, *, days: int, now: float, hosts: Sequence[str] = ()
    ) -> Issued:
        """Makes a key and a certificate; what is left of it here is a public copy in `issued`.

        `hosts` are the names and addresses of a manager, for others they are not asked. It expires
        with the CA if not before. Raises ValueError for a wrong name or host, Refused, OSError.
        """
        check_name(name)
        if role is Role.WORKER:
            alike = find_worker_alike(self._directory, name, now)
            if alike is not None:
                raise Refused(
                    f"worker {alike} has a certificate, and to TLS {name} would be the same name: "
                    "revoke that, or take another name"
                )
        identity = Identity(self.cluster, role, name)
        begin = datetime.fromtimestamp(int(now), UTC)
        end = min(begin + timedelta(days=days), self._certificate.not_valid_after_utc)
        if end <= begin:
            raise Refused(f"the CA in {self._directory} has expired: make another one elsewhere")
        key = _new_key()
        serial = _new_serial()
        certificate = (
            _builder(begin, end, serial, key)
            .subject_name(_subject(name))
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_USAGES[role]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(identity.uri), *_host_names(identity, hosts)]
                ),
                # RFC 5280, 4.2.1.6: where the subject is empty.
                critical=len(name) > _COMMON_NAME_MAX,
            )
            .add_extension(_key_identifier_of(self._certificate), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        # Before anybody has it: no certificate is about that could not be found and revoked.
        issued = self._directory / layout.ISSUED
        paths.make_private_directory(issued)
        paths.write_file(issued / f"{format_serial(serial)}.pem", certificate_pem)
        return Issued(
            identity=identity,
            serial=serial,
            ends=end.timestamp(),
            credentials=Credentials(self._ca_pem, certificate_pem, _key_pem(key)),
        )


def create(directory: Path, *, cluster: str, now: float, days: int = CA_DAYS) -> Authority:
    """Makes a CA in a directory that has none.

    Raises Refused where there is one, ValueError for a wrong name, OSError.
    """
    check_name(cluster)
    key = _new_key()
    begin = datetime.fromtimestamp(int(now), UTC)
    # The name is for people, who read its beginning; programs read the URI.
    name = _subject(f"{cluster[: _COMMON_NAME_MAX - 3]} CA")
    certificate = (
        _builder(begin, begin + timedelta(days=days), _new_serial(), key)
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{cluster}")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    ca_pem = certificate.public_bytes(serialization.Encoding.PEM)
    paths.make_private_directory(directory)
    with paths.locked(directory / layout.CA_KEY):
        check_absent(directory)
        paths.write_file(directory / layout.CA_KEY, _key_pem(key), mode=layout.KEY_MODE)
        paths.write_file(directory / layout.CA, ca_pem)
    return Authority(directory, certificate, key, ca_pem)


def check_absent(directory: Path) -> None:
    """Raises Refused where there is a CA, or a part of one."""
    for path in (directory / layout.CA, directory / layout.CA_KEY):
        if path.exists():
            raise Refused(f"there is a CA in {directory} already ({path.name}), and it stays")


def load(directory: Path) -> Authority:
    """The CA in a directory. Raises TitanError where there is none that can be used, OSError."""
    ca_path, key_path = directory / layout.CA, directory / layout.CA_KEY
    try:
        ca_pem, key_pem = ca_path.read_bytes(), key_path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TitanError(
            f"no CA makes certificates in {directory}: there is no {error.filename}; "
            "`titan certs init` makes one"
        ) from error
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
        certificates = x509.load_pem_x509_certificates(ca_pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TitanError(f"the CA in {directory} cannot be used: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TitanError(f"{key_path} is no key on a curve, as `titan certs init` makes one")
    for certificate in certificates:
        if certificate.public_key() == key.public_key():
            return Authority(directory, certificate, key, ca_pem)
    raise TitanError(f"{key_path} is the key of no certificate in {ca_path}")


def default_hosts() -> tuple[str, ...]:
    """What this machine is called, as far as that can stand in a certificate."""
    return tuple(name for name in (socket.gethostname(), socket.getfqdn()) if _is_host(name))


def host_name(host: str) -> x509.DNSName | x509.IPAddress:
    """As it stands in a manager's certificate. Raises ValueError with a sentence."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        name = host.lower().removesuffix(".")
        if not _is_host(name):
            raise ValueError(
                f"{host!r} can be no host of a manager: write a name without wildcards or an "
                f"address; names that end in {WORKER_DOMAIN} are those of workers"
            ) from None
        return x509.DNSName(name)


def _host_names(identity: Identity, hosts: Iterable[str]) -> Sequence[x509.GeneralName]:
    if identity.role is Role.WORKER:
        return [x509.DNSName(worker_host(identity.name))]
    if identity.role is not Role.MANAGER:
        return []
    names = {each.value: each for each in map(host_name, (*hosts, *_LOCAL_HOSTS))}
    return list(names.values())


def _is_host(name: str) -> bool:
    is_worker = f".{name.lower()}".endswith(WORKER_DOMAIN)
    return len(name) <= 253 and _HOST.fullmatch(name) is not None and not is_worker


def _cluster_of(certificate: x509.Certificate) -> str:
    """What the CA's own URI says. Raises TitanError."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    for uri in uris:
        # As part of an identity, whose cluster is checked there.
        found = parse_uri(f"{uri}/manager/x")
        if found is not None:
            return found.cluster
    raise TitanError("the CA's certificate does not say which cluster it is for")


def _builder(
    begin: datetime, end: datetime, serial: int, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(begin - _EARLIER)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _subject(name: str) -> x509.Name:
    """Empty where the name is too long for one: then the alternative names say it alone."""
    if len(name) > _COMMON_NAME_MAX:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_identifier_of(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _new_serial() -> int:
    """127 random bits: nobody guesses one, none comes twice, and 16 octets hold it."""
    return (1 << 126) | secrets.randbits(126)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
