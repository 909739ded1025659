"""The peer of the intake: the same endpoint as one writes it with FastAPI, uvicorn and aiokafka.

The same form, credential, acknowledgement by all in-sync replicas and idempotence; the event is JSON. Told
BOOTSTRAP, TOPIC, PORT, BEARER by environment.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from hmac import compare_digest
from typing import Annotated

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import Depends, FastAPI, Form, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field


class PaymentForm(BaseModel):
    """IC's form, by its own names."""

    model_config = ConfigDict(extra="allow")

    PaymentGUID: str = Field(min_length=1, max_length=80)
    BillerGUID: str | None = None
    PaymentDate: datetime
    InvoiceNumber: str | None = None
    AccountNumber: str | None = None
    Approved: bool
    CustomerName: str | None = None
    PaymentAmount: Decimal = Field(ge=0, decimal_places=2)
    ConvenienceFee: Decimal = Decimal("0.00")
    PaymentDescription: str | None = None
    PaymentTypeID: str | None = None
    CardType: str | None = None
    BillerReference: str | None = None
    Product: str | None = None


class Receipt(BaseModel):
    PaymentGUID: str
    Status: str = "accepted"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["BOOTSTRAP"], acks="all", enable_idempotence=True, linger_ms=5
    )
    await producer.start()
    app.state.producer = producer
    try:
        yield
    finally:
        await producer.stop()


app = FastAPI(lifespan=lifespan)


def speaker(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
    if not compare_digest(given.credentials.encode(), os.environ["BEARER"].encode()):
        raise HTTPException(401)


@app.post("/ic/{biller}/payments", dependencies=[Depends(speaker)])
async def pay(biller: str, form: Annotated[PaymentForm, Form()]) -> Receipt:
    event = {**form.model_dump(mode="json"), "biller": biller, "received_at": datetime.now(UTC).isoformat()}
    await app.state.producer.send_and_wait(
        os.environ["TOPIC"], json.dumps(event).encode(), key=f"{biller}/{form.AccountNumber}".encode()
    )
    return Receipt(PaymentGUID=form.PaymentGUID)


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
