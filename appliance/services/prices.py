"""What usage costs by the price table of the configuration. Pure.

Tokens, sound and pictures cost on deployments that are shared; of an account's own deployments the time of their
devices does. What has no price costs nothing.
"""

from appliance.config import PriceSettings, TokenPrice
from appliance.domain import TokenCounts, TokenUser

DEFAULT = "default"
"""The price of models that have none of their own."""
MILLION = 1_000_000
HOUR_S = 3600.0
MINUTE_MS = 60_000

FREE = TokenPrice()


class Prices:
    def __init__(self, settings: PriceSettings) -> None:
        self._settings = settings

    @property
    def is_empty(self) -> bool:
        return not (self._settings.token_prices or self._settings.accelerator_hour_prices)

    @property
    def currency(self) -> str:
        return self._settings.currency

    def of_model(self, model: str) -> TokenPrice:
        prices = self._settings.token_prices
        return prices.get(model) or prices.get(DEFAULT) or FREE

    def of_accelerator_hour(self, accelerator_type: str) -> float:
        prices = self._settings.accelerator_hour_prices
        return prices.get(accelerator_type, prices.get(DEFAULT, 0.0))

    def token_cost(self, user: TokenUser, counts: TokenCounts) -> float:
        if user.is_dedicated:
            return 0.0
        price = self.of_model(user.model)
        cost = (counts.num_prompt_tokens - counts.num_cached_tokens) * price.prompt
        cost += counts.num_cached_tokens * price.of_cached_prompt + counts.num_completion_tokens * price.completion
        return cost / MILLION + counts.audio_ms / MINUTE_MS * price.audio_minute + counts.num_images * price.image

    def accelerator_cost(self, accelerator_type: str, seconds: float) -> float:
        return seconds / HOUR_S * self.of_accelerator_hour(accelerator_type)
