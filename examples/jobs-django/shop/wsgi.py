import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()

# Below, since models can be imported only now. Job workers take it from here: [jobs] app.
from shop.jobs import jobs  # noqa: E402, F401
