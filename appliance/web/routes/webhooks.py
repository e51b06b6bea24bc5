"""Webhooks; for administrators."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.web.security import Administrator, ServicesDep

router = APIRouter(tags=["webhooks"])

Event = Literal["job.done", "job.failed", "job.cancelled"]
WebhookId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16}$")]


class WebhookIn(BaseModel):
    """A new webhook; addresses on the local network are allowed."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=8, max_length=2000, description="http or https; redirects are not followed")
    events: list[Event] = Field(["job.done", "job.failed"], min_length=1, max_length=10)


class WebhookOut(BaseModel):
    """A webhook without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    url: str
    events: list[Event]
    enabled: bool
    created_at: float
    last_status: str | None = Field(description="The outcome of the latest delivery")


class NewWebhookOut(WebhookOut):
    """A new webhook with the secret that signs its messages, which cannot be read again."""

    secret: str


@router.get("/api/webhooks", summary="List webhooks")
def list_webhooks(services: ServicesDep, caller: Administrator) -> list[WebhookOut]:
    """Return all webhooks."""
    del caller
    return [WebhookOut.model_validate(webhook) for webhook in services.webhooks.list()]


@router.post("/api/webhooks", status_code=201, summary="Add a webhook")
def add_webhook(services: ServicesDep, caller: Administrator, body: WebhookIn) -> NewWebhookOut:
    """Add a webhook.

    Its messages carry `X-Relume-Signature: t=<seconds>,v1=<hex>`: HMAC-SHA256 of `<seconds>.<body>` with the secret.
    """
    webhook, secret = services.webhooks.add(body.url, body.events, actor=caller.actor)
    return NewWebhookOut(**WebhookOut.model_validate(webhook).model_dump(), secret=secret)


class TestOut(BaseModel):
    """The outcome of a test message; `problem` is null if it was delivered."""

    problem: str | None


@router.post("/api/webhooks/{webhook_id}/test", summary="Send a test message")
def test_webhook(services: ServicesDep, caller: Administrator, webhook_id: WebhookId) -> TestOut:
    """Send a signed message with the event `test` immediately."""
    del caller
    return TestOut(problem=services.webhooks.test(webhook_id))


@router.delete("/api/webhooks/{webhook_id}", status_code=204, summary="Delete a webhook", response_class=Response)
def remove_webhook(services: ServicesDep, caller: Administrator, webhook_id: WebhookId) -> Response:
    """Delete a webhook and its undelivered messages."""
    services.webhooks.remove(webhook_id, actor=caller.actor)
    return Response(status_code=204)
