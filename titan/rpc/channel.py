"""Channels and servers: gRPC's options in one place, with the reason for each."""

from __future__ import annotations

import ipaddress
import resource
from collections.abc import Callable, Sequence
from typing import Any, cast

import grpc
import grpc.aio

from titan.rpc.reading import ReadingHandlers
from titan.tls.pem import PemFiles, Pems
from titan.tls.renewing import RenewingAioChannel, RenewingChannel

MESSAGE_BYTES_MAX = 16 * 1024 * 1024

_SIZES = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]

CLIENT_OPTIONS = [
    *_SIZES,
    # A proxy from the environment would be asked even for 127.0.0.1.
    ("grpc.enable_http_proxy", 0),
    # The defaults grow to two minutes, in which a restarted manager looks dead.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # That is how long an attempt may take at least: with a handshake, over a slow line.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A peer that vanished without a FIN is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # One connection a channel, not one shared with others of the same address.
    ("grpc.use_local_subchannel_pool", 1),
]

SERVER_OPTIONS = [
    *_SIZES,
    # Else a second manager would share the port without a word.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What the clients' keepalive above needs.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Who says nothing after he has connected is let go; the default is two minutes.
    ("grpc.server_handshake_timeout_ms", 20_000),
    # So is he who has called nothing for so long: his next call connects again by itself.
    ("grpc.max_connection_idle_ms", 600_000),
    # Of one connection; calls beyond that wait at the caller's. A wait for a job is one.
    ("grpc.max_concurrent_streams", 8_192),
]

# Each takes the manager some 15 KiB as long as it says nothing, and 75 KiB with TLS.
CONNECTIONS_MAX = 16_000
# Files of the log must always find a descriptor, or the manager would have to stop.
SPARE_DESCRIPTORS = 256

# Of a message that is not read yet a server takes no more than that, whatever the line could carry:
# with thousands of calls that wait, what gRPC would let in by itself is more than they are worth.
UNREAD_BYTES_MAX = 128 * 1024
_BOUNDED = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", UNREAD_BYTES_MAX),
]


def open_channel(address: str, files: PemFiles | None = None, *, host: str = "") -> grpc.Channel:
    """A channel for calls from threads. Connects at the first call.

    With `files` it is encrypted, and both sides prove who they are: the server that it is `host`,
    or without that the host in its address.
    """
    if files is None:
        return grpc.insecure_channel(address, options=CLIENT_OPTIONS)

    options = _secure_options(host)

    def open_now() -> grpc.Channel:
        return grpc.secure_channel(address, _credentials(files.pems), options=options)

    return cast("grpc.Channel", RenewingChannel(open_now, files.look))


def open_aio_channel(
    address: str, files: PemFiles | None = None, *, host: str = ""
) -> grpc.aio.Channel:
    """The same for calls from the running asyncio loop."""
    if files is None:
        return grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
    options = _secure_options(host)

    def open_now() -> grpc.aio.Channel:
        return grpc.aio.secure_channel(address, _credentials(files.pems), options=options)

    return cast("grpc.aio.Channel", RenewingAioChannel(open_now, files.look))


def _secure_options(host: str) -> list[tuple[str, Any]]:
    return [*CLIENT_OPTIONS, *([("grpc.ssl_target_name_override", host)] if host else ())]


def _credentials(pems: Pems) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(pems.roots, pems.key or None, pems.chain or None)


def server_credentials(
    files: PemFiles, look: Callable[[], int], *, asks_certificate: bool = True
) -> grpc.ServerCredentials:
    """For a port of a server, with whatever certificate there is when somebody connects.

    `look` looks at the files, in a thread of gRPC. Callers prove nothing by themselves without
    `asks_certificate`.
    """
    told = files.generation

    def configure() -> grpc.ServerCertificateConfiguration:
        pems = files.pems
        return grpc.ssl_server_certificate_configuration([(pems.key, pems.chain)], pems.roots)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        generation = look()
        if generation == told:
            return None
        told = generation
        return configure()

    # None means that it is the same, which the stubs do not know.
    fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch)
    return grpc.dynamic_ssl_server_credentials(configure(), fetcher, asks_certificate)


def new_aio_server(*, is_bounded: bool = False) -> grpc.aio.Server:
    """A server on the running asyncio loop.

    With `is_bounded` what waits to be read takes no more memory than `UNREAD_BYTES_MAX` a call.
    """
    options = [*SERVER_OPTIONS, *(_BOUNDED if is_bounded else ())]
    # The connections above that are closed as soon as they are made.
    options.append(("grpc.max_allowed_incoming_connections", connections_max()))
    server = grpc.aio.server(options=options)
    # Handlers are added in two ways by the generated code. The server waits for the next call of
    # each registered method by itself, and all of these waits are set up anew at every call; for
    # the others, one wait does.
    server.add_registered_method_handlers = _register_nothing  # type: ignore[method-assign]
    add = server.add_generic_rpc_handlers

    def add_reading(handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        add([_reading(each) for each in handlers])

    server.add_generic_rpc_handlers = add_reading  # type: ignore[method-assign, assignment]
    return server


def connections_max() -> int:
    """How many connections a server of this process may have at once."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(descriptors - SPARE_DESCRIPTORS, descriptors // 2))


def raise_descriptors() -> None:
    """Lets this process, and all that it starts, have as many as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _reading(handlers: grpc.GenericRpcHandler) -> grpc.GenericRpcHandler:
    """Handlers that nobody has said more of are anybody's."""
    return handlers if isinstance(handlers, ReadingHandlers) else ReadingHandlers(handlers)


def _register_nothing(service_name: str, method_handlers: object) -> None:
    """The same handlers are served as generic ones."""


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT or [HOST]:PORT in parts. Raises ValueError with a sentence."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or not host:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """HOST:PORT, or [HOST]:PORT where the host is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address. Raises ValueError with a sentence."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_loopback(address: str) -> None:
    """Raises ValueError unless only this machine can reach the address."""
    if not is_loopback(address):
        raise ValueError(
            f"{address} can be reached from other machines, which needs certificates: make them "
            "with `titan certs init` and name them with --tls-dir DIR; or use a loopback address "
            "such as 127.0.0.1"
        )
