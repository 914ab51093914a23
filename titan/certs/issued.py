"""Which certificates a CA has made, and which of them count no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509

from titan import paths
from titan.certs import layout
from titan.errors import NotFound, TitanError
from titan.tls.identity import Identity, Role, parse_uri
from titan.tls.revoked import FILE_NAME, format_serial, parse_list, parse_serial

# A number with fewer digits is a slip, or a name: no CA makes such serials (64 bits at least, by
# the CA/Browser Forum's baseline requirements, 7.1).
_SERIAL_DIGITS_MIN: Final = 12


class State(StrEnum):
    """Whether a certificate counts."""

    VALID = "VALID"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is known of one. `identity` is None where it names none that Titan knows."""

    serial: int
    identity: Identity | None
    ends: float
    """In Unix seconds."""
    is_revoked: bool

    def state(self, now: float) -> State:
        """Revoked is said of an expired one too: it was meant."""
        if self.is_revoked:
            return State.REVOKED
        return State.EXPIRED if now >= self.ends else State.VALID


def list_issued(directory: Path) -> tuple[list[Certificate], list[str]]:
    """All that were issued, the oldest first, and sentences about what could not be read.

    Raises OSError.
    """
    revoked = _revoked(directory)[0]
    found, broken = [], []
    for path in sorted((directory / layout.ISSUED).glob("*.pem")):
        try:
            certificate, written_ns = _read(path), path.stat().st_mtime_ns
            issued = _described(certificate, revoked)
        except (OSError, ValueError) as error:
            broken.append(f"{path}: {error}")
            continue
        # Certificates tell time by the second.
        found.append((certificate.not_valid_before_utc, written_ns, issued))
    found.sort(key=lambda each: each[:2])
    return [issued for _, _, issued in found], broken


def find_worker_alike(directory: Path, name: str, now: float) -> str | None:
    """The other worker with a valid certificate whose name differs by capitals only, or None.

    To TLS, which compares host names without regard to them, the two would be the same.
    """
    for each in list_issued(directory)[0]:
        identity = each.identity
        if (
            identity is not None
            and identity.role is Role.WORKER
            and identity.name != name
            and identity.name.lower() == name.lower()
            and each.state(now) is State.VALID
        ):
            return identity.name
    return None


def revoke(directory: Path, wanted: Sequence[str], now: float) -> list[Certificate]:
    """Revokes what is named, all or nothing; returns those that were not revoked before.

    Each is a name (`worker/w1`, or `w1` where only one role has it), which stands for all of its
    certificates that have not expired, a serial, or a file with the certificate in it.
    Raises NotFound, ValueError where a name is not one role's, TitanError, OSError.
    """
    if not directory.is_dir():
        raise NotFound(f"there is no directory {directory}")
    with paths.locked(directory / FILE_NAME):
        issued, _ = list_issued(directory)
        found: dict[int, Certificate] = {}
        for word in wanted:
            for each in _find(word, issued, now):
                found.setdefault(each.serial, each)
        revoked, text = _revoked(directory)
        new = [each for serial, each in found.items() if serial not in revoked]
        if new:
            day = datetime.fromtimestamp(now, UTC).date()
            lines = [f"{format_serial(each.serial)}  # {_said(each)}, {day}\n" for each in new]
            if text and not text.endswith("\n"):
                text += "\n"
            content = (text + "".join(lines)).encode("utf-8", "surrogateescape")
            paths.write_file(directory / FILE_NAME, content)
    return new


def _find(word: str, issued: Sequence[Certificate], now: float) -> list[Certificate]:
    path = Path(word)
    role, slash, name = word.partition("/")
    if slash and role in list(Role):
        return _unexpired(word, issued, {Role(role)}, name, now)
    if (slash or word.endswith(".pem")) and path.is_file():
        try:
            certificate = _read(path)
            described = _described(certificate, frozenset())
        except ValueError as error:
            raise TitanError(f"{path}: {error}") from error
        if _is_ca(certificate):
            raise TitanError(f"{path} is the certificate of a CA; it cannot revoke itself")
        return [described]
    serial = parse_serial(word)
    by_serial = [each for each in issued if each.serial == serial]
    if by_serial:
        return by_serial
    roles = {each.identity.role for each in issued if each.identity and each.identity.name == word}
    if roles:
        # The two are one person.
        if len(roles) > 1 and not roles <= {Role.USER, Role.ADMIN}:
            names = " and ".join(f"{each}/{word}" for each in sorted(roles))
            raise ValueError(f"there are {names}: name one of them")
        return _unexpired(word, issued, roles, word, now)
    if serial is not None and len(f"{serial:x}") >= _SERIAL_DIGITS_MIN:
        # Of another CA, perhaps, or its copy is gone.
        return [Certificate(serial=serial, identity=None, ends=float("inf"), is_revoked=False)]
    raise NotFound(
        f"no certificate for {word!r} was issued here; `titan certs list` tells which were"
    )


def _unexpired(
    word: str, issued: Iterable[Certificate], roles: set[Role], name: str, now: float
) -> list[Certificate]:
    found = [
        each
        for each in issued
        if each.identity is not None and each.identity.role in roles and each.identity.name == name
    ]
    if not found:
        raise NotFound(f"no certificate for {word} was issued here")
    return [each for each in found if now < each.ends]


def _revoked(directory: Path) -> tuple[frozenset[int], str]:
    """The serials, and the file's text. Raises OSError."""
    try:
        text = (directory / FILE_NAME).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return frozenset(), ""
    return parse_list(text)[0], text


def _said(certificate: Certificate) -> str:
    identity = certificate.identity
    return f"{identity.role}/{identity.name}" if identity else "not issued here"


def _read(path: Path) -> x509.Certificate:
    """The first certificate in a file, which in a bundle or a chain is its owner's."""
    certificates = x509.load_pem_x509_certificates(path.read_bytes())
    return certificates[0]


def _described(certificate: x509.Certificate, revoked: frozenset[int]) -> Certificate:
    return Certificate(
        serial=certificate.serial_number,
        identity=_identity_of(certificate),
        ends=certificate.not_valid_after_utc.timestamp(),
        is_revoked=certificate.serial_number in revoked,
    )


def _identity_of(certificate: x509.Certificate) -> Identity | None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        identity = parse_uri(uri)
        if identity is not None:
            return identity
    return None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
