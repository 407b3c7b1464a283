"""The shop's jobs. They use the models, so they are imported once Django is set up: see wsgi.py."""

from collections.abc import Callable
from typing import Any

from django.db import close_old_connections

from clusterd.jobs import CurrentJob, Jobs, exponential
from shop.models import Order

jobs = Jobs()


@jobs.middleware
def connections(job: CurrentJob, call_next: Callable[[], Any]) -> Any:
    """Have each job's thread begin and end with sound connections, as a request does."""
    close_old_connections()
    try:
        return call_next()
    finally:
        close_old_connections()


@jobs.job(queue="mail", attempts=5, backoff=exponential(2, max=600), timeout="1m")
def order_mail(order: int) -> str:
    found = Order.objects.get(pk=order)
    found.mail = f"To: {found.to}\n\nYour order {found.pk} is on its way."
    found.save()
    return found.mail
