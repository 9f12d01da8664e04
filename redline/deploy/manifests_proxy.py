"""The configuration of llm-d's proxy: an Envoy that asks the endpoint picker beside it where each request goes.

Nothing in it waits or gives up before Redline's own bounds do, and nothing limits how many requests are in flight:
Envoy's defaults (1,024 connections and requests, 5 minutes without a byte) would be measured instead of the servers.

Source: Envoy's v3 API (ext_proc, original destination cluster, circuit breakers), and the endpoint picking protocol of
the Gateway API Inference Extension: the picker answers with the header x-gateway-destination-endpoint.
"""

from __future__ import annotations

from typing import Any

PROXY_PORT = 8081
PROXY_READY_PORT = 19001
PICKER_PORT = 9002
ADMIN_PORT = 19000
DESTINATION_HEADER = "x-gateway-destination-endpoint"
UNLIMITED = 1_000_000
KEPT_IDLE_S = 4
"""Less than the 5 s after which vLLM closes an idle connection: Envoy never writes to one that is being closed."""

_TYPES = "type.googleapis.com/envoy.extensions"


def envoy_config() -> dict[str, Any]:
    """The whole bootstrap configuration."""
    return {
        "admin": {"address": _address("127.0.0.1", ADMIN_PORT)},
        "static_resources": {
            "listeners": [
                _listener("requests", PROXY_PORT, _picked_route(), [_picker_filter(), _router_filter()]),
                _listener("ready", PROXY_READY_PORT, _ready_route(), [_router_filter()]),
            ],
            "clusters": [_picked_cluster(), _picker_cluster()],
        },
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(name: str, port: int, route: dict[str, Any], filters: list[dict[str, Any]]) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "stream_idle_timeout": "0s",
        "route_config": {
            "name": name,
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [{"match": {"prefix": "/"}} | route]}],
        },
        "http_filters": filters,
    }
    return {
        "name": name,
        "address": _address("0.0.0.0", port),  # noqa: S104 - the Service reaches it from outside the pod
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _picked_route() -> dict[str, Any]:
    return {"route": {"cluster": "picked", "timeout": "0s"}}


def _ready_route() -> dict[str, Any]:
    return {"direct_response": {"status": 200}}


def _router_filter() -> dict[str, Any]:
    return {
        "name": "router",
        "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router", "suppress_envoy_headers": True},
    }


def _picker_filter() -> dict[str, Any]:
    """Requests and answers pass by the picker; a picker that fails fails the request, and is not passed over."""
    return {
        "name": "picker",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker", "authority": f"localhost:{PICKER_PORT}"}},
            "failure_mode_allow": False,
            "message_timeout": "30s",
            "processing_mode": {
                "request_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_header_mode": "SEND",
                "response_body_mode": "FULL_DUPLEX_STREAMED",
                "response_trailer_mode": "SEND",
            },
        },
    }


def _picked_cluster() -> dict[str, Any]:
    """The replica that the picker named, over connections of HTTP/1.1 as vLLM speaks it."""
    return {
        "name": "picked",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION_HEADER},
        "circuit_breakers": _no_limits(),
        "typed_extension_protocol_options": _protocol(
            {"http_protocol_options": {}}, common={"idle_timeout": f"{KEPT_IDLE_S}s"}
        ),
    }


def _picker_cluster() -> dict[str, Any]:
    """The picker in the same pod, over plain HTTP/2: nothing of it leaves the pod."""
    return {
        "name": "picker",
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": _no_limits(),
        "typed_extension_protocol_options": _protocol({"http2_protocol_options": {}}),
        "load_assignment": {
            "cluster_name": "picker",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address("127.0.0.1", PICKER_PORT)}}]}],
        },
    }


def _no_limits() -> dict[str, Any]:
    limits = {"max_connections": UNLIMITED, "max_pending_requests": UNLIMITED, "max_requests": UNLIMITED}
    return {"thresholds": [{"priority": "DEFAULT"} | limits]}


def _protocol(explicit: dict[str, Any], common: dict[str, Any] | None = None) -> dict[str, Any]:
    options: dict[str, Any] = {"@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"}
    options["explicit_http_config"] = explicit
    if common:
        options["common_http_protocol_options"] = common
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
