"""`python -m services.ingestion`."""

from libs.runtime.process import Lifecycle, run
from services.ingestion.app import main
from services.ingestion.settings import Settings

if __name__ == "__main__":
    settings = Settings.load()

    async def body(lifecycle: Lifecycle) -> None:
        """Run with the settings of this process."""
        await main(lifecycle, settings)

    run("ingestion", body, settings)
