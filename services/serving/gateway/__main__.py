"""`python -m services.serving.gateway`."""

from functools import partial

from libs.runtime.process import run
from services.serving.gateway.app import serve
from services.serving.gateway.settings import GatewaySettings

if __name__ == "__main__":
    settings = GatewaySettings.load()
    run("gateway", partial(serve, settings), settings)
