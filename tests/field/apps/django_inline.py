"""Django with its ORM on SQLite, all in one module."""

import os

import django
from django.conf import settings
from django.db import connection, models
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="none",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DB"]}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()


class Visit(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "shop"


def visit(request):
    if Visit._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Visit)
    Visit.objects.create(name="a")
    return HttpResponse(str(Visit.objects.count()))


def stream(request):
    """The query runs when the response is iterated over."""
    return StreamingHttpResponse(each.name for each in Visit.objects.iterator())


async def coroutine(request):
    return HttpResponse(str(await Visit.objects.acount()))


urlpatterns = [path("visit", visit), path("stream", stream), path("coroutine", coroutine)]

from django.core.wsgi import get_wsgi_application  # noqa: E402

app = get_wsgi_application()
