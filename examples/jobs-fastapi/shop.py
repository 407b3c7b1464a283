"""A shop: requests enqueue order mails, job workers send them."""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from clusterd.jobs import JobNotFound, Jobs, State, exponential

jobs = Jobs()
app = FastAPI()


class Order(BaseModel):
    to: str
    items: list[str]


@jobs.job(queue="mail", attempts=5, backoff=exponential(2, max=600), timeout="1m")
async def order_mail(order: Order) -> str:
    return f"To: {order.to}\n\nYour {' and '.join(order.items)} will be with you soon."


@app.post("/orders", status_code=202)
async def create(order: Order) -> dict[str, str]:
    handle = await order_mail.aenqueue(order)
    return {"id": handle.id}


@app.get("/orders/{id}")
async def show(id: str) -> dict[str, str | None]:
    handle = order_mail.handle(id)
    try:
        info = await handle.ainfo()
    except JobNotFound:
        raise HTTPException(404) from None
    done = info.state is State.COMPLETED
    return {"state": info.state.label, "mail": await handle.aresult() if done else None}
