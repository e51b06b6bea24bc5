"""When something that failed is tried again."""

import time
from dataclasses import dataclass

from appliance.watch.folder import WatchedFile


@dataclass(frozen=True, slots=True)
class Patience:
    """How often something that failed is tried, and after how long: each pause is `factor` times the one before."""

    tries: int = 4
    first_s: float = 30.0
    factor: float = 5.0

    def retry_at(self, tries: int) -> float | None:
        """Give the time of the next try after so many, None where there is none."""
        return None if tries >= self.tries else time.time() + self.pause_s(tries)

    def pause_s(self, tries: int) -> float:
        """Give the pause after so many tries."""
        return self.first_s * self.factor ** (tries - 1)

    def is_due(self, file: WatchedFile) -> bool:
        """Tell whether it is time to try again; a time that a changed clock put far away counts as well."""
        if file.retry_at is None:
            return False
        left_s = file.retry_at - time.time()
        return left_s <= 0 or left_s > self.pause_s(file.tries) + 1
