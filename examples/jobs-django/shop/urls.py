from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop.jobs import order_mail
from shop.models import Order


@csrf_exempt
@require_POST
def create(request: HttpRequest) -> JsonResponse:
    order = Order.objects.create(to=request.POST["to"])
    handle = order_mail.enqueue(order.pk)  # after the commit: the job looks for the order
    return JsonResponse({"order": order.pk, "job": handle.id}, status=202)


def show(request: HttpRequest, pk: int) -> JsonResponse:
    order = get_object_or_404(Order, pk=pk)
    return JsonResponse({"to": order.to, "mail": order.mail})


urlpatterns = [path("orders", create), path("orders/<int:pk>", show)]
