"""The registry's gRPC door: translate only."""

from services.registry.rpc.servicer import SERVICE, RegistryServicer, register

__all__ = ["SERVICE", "RegistryServicer", "register"]
