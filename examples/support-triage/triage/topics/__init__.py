"""The nine topics of support tickets: for each its phrases with slots and the words that fill them."""

from types import ModuleType

from triage.topics import access, billing, data, feature, hardware, howto, network, security, shipping

MODULES: dict[str, ModuleType] = {
    "access": access,
    "network": network,
    "hardware": hardware,
    "billing": billing,
    "data": data,
    "security": security,
    "feature": feature,
    "howto": howto,
    "shipping": shipping,
}
