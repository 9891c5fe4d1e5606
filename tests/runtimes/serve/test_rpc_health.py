"""``grpc.health.v1.Health``, with Google's own client."""

from rpc_served import CODE, HEALTH, INFERENCE, Make, refusal

from edgeport.runtimes.serve.rpc import messages


def test_health(make: Make) -> None:
    server = make()
    for service in ("", INFERENCE, HEALTH):
        assert server.ask("Check", HEALTH, service=service).status == 1
    assert refusal(lambda: server.ask("Check", HEALTH, service="a")) == (
        CODE.NOT_FOUND,
        "no service is named 'a'",
    )
    assert dict(server.ask("List", HEALTH).statuses).keys() == {"", INFERENCE, HEALTH}


def test_who_watches_health_hears_of_the_end(make: Make) -> None:
    server = make()
    watch = server.channel.unary_stream(
        f"/{HEALTH}/Watch",
        messages.HealthCheckRequest.SerializeToString,
        messages.HealthCheckResponse.FromString,
    )(messages.HealthCheckRequest())
    assert next(watch).status == 1
    server.stop()
    assert [message.status for message in watch] == [2]


def test_who_watches_health_hears_of_every_change(make: Make) -> None:
    server = make(control=True)
    watch = server.channel.unary_stream(
        f"/{HEALTH}/Watch",
        messages.HealthCheckRequest.SerializeToString,
        messages.HealthCheckResponse.FromString,
    )(messages.HealthCheckRequest(service=INFERENCE), timeout=30)
    assert next(watch).status == 1
    server.ask("RepositoryModelUnload", model_name="mlp")
    assert next(watch).status == 2
    server.ask("RepositoryModelLoad", model_name="mlp")
    assert next(watch).status == 1
    watch.cancel()
