"""One's own API tokens."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.roles import Role
from appliance.web.access import Person, ServicesHere

router = APIRouter(tags=["accounts"])

TokenId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16}$")]


class TokenIn(BaseModel):
    """A new token; it may do what the role may, and never more than its owner."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    role: Role | None = Field(None, description="Left out: the owner's")
    days: float | None = Field(None, gt=0, le=3650, description="How long it counts; left out: until it is removed")


class TokenOut(BaseModel):
    """A token without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    role: Role
    prefix: str = Field(description="How the secret begins")
    created_at: float
    expires_at: float | None
    last_used_at: float | None


class NewTokenOut(TokenOut):
    """A token that was just made; the secret is never shown again."""

    secret: str


@router.get("/api/tokens", summary="List one's tokens")
def list_tokens(services: ServicesHere, caller: Person) -> list[TokenOut]:
    """Give the caller's tokens."""
    return [TokenOut.model_validate(token) for token in services.accounts.tokens.list(caller.id)]


@router.post("/api/tokens", status_code=201, summary="Make a token")
def add_token(services: ServicesHere, caller: Person, body: TokenIn) -> NewTokenOut:
    """Make a token; its secret is in this answer alone."""
    token, secret = services.accounts.tokens.add(caller, body.name, body.role or caller.role, days=body.days)
    return NewTokenOut(**TokenOut.model_validate(token).model_dump(), secret=secret)


@router.delete("/api/tokens/{token_id}", status_code=204, summary="Remove a token", response_class=Response)
def remove_token(services: ServicesHere, caller: Person, token_id: TokenId) -> Response:
    """Remove a token; it stops counting at once."""
    services.accounts.tokens.remove(caller.id, token_id, actor=caller.actor)
    return Response(status_code=204)
