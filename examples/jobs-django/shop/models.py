from django.db import models


class Order(models.Model):
    to = models.EmailField()
    mail = models.TextField(default="")  # what was sent
