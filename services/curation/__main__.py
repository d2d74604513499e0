"""`python -m services.curation`."""

from libs.runtime.process import Lifecycle, run
from services.curation.app import main
from services.curation.settings import Settings

if __name__ == "__main__":
    settings = Settings.load()

    async def body(lifecycle: Lifecycle) -> None:
        """Run with the settings of this process."""
        await main(lifecycle, settings)

    run("curation", body, settings)
