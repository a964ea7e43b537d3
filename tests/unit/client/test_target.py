import pytest

from dyncity_sim.cli.main import main
from dyncity_sim.client.client import DyncityClient
from dyncity_sim.client.target import checked_target
from dyncity_sim.errors import InvalidInputError


@pytest.mark.parametrize(
    "target",
    [
        "localhost:50051",
        "10.0.0.7:1",
        "gpu-box.example.org:65535",
        "[::1]:50051",
        "[fe80::1%eth0]:50051",
        "dns:///gpu-box:50051",
        "unix:/run/dyncity.sock",
    ],
)
def test_an_address_stays_as_it_is(target: str) -> None:
    assert checked_target(target) == target
    with DyncityClient(target) as client:
        assert client.target == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        "localhost",
        "localhost:",
        ":50051",
        "::1:50051",
        "localhost:0",
        "localhost:65536",
        "localhost:http",
        "http://localhost:50051",
        "localhost:50051/",
        "localhost:1,localhost:2",
        "local host:50051",
        "localhost:50051\n",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(target: str) -> None:
    with pytest.raises(InvalidInputError, match=r"host:port with a port of 1 to 65535.*localhost:50051") as refused:
        DyncityClient(target)
    assert (refused.value.field, refused.value.got) == ("server", repr(target))


@pytest.mark.parametrize(
    "words",
    [["info"], ["generate", "--straight", "20", "--out", "out"], ["cosim", "--out", "out"]],
    ids=lambda words: words[0],
)
def test_commands_refuse_what_is_no_address(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--server", "http://localhost:50051"])
    assert "'http://localhost:50051' is no address: expected host:port" in capsys.readouterr().err
