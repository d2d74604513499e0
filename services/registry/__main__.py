"""`python -m services.registry`."""

from libs.runtime.process import run
from services.registry.app import serve
from services.registry.settings import RegistrySettings

if __name__ == "__main__":
    run("registry", serve, RegistrySettings.load())
