"""The settings: what cannot work is refused with a sentence that names the option."""

import dataclasses

import pytest

from maitred.config import MOST_WORKERS, Settings, WorkerSettings, option
from maitred.errors import UsageError
from maitred.placement import POLICIES


def refusal(**settings):
    """Give the sentence with which *settings* are refused."""
    with pytest.raises(UsageError) as refused:
        Settings(**{"target": "app:app"} | settings)
    return str(refused.value)


def test_target_alone_is_enough():
    """Everything else has a default."""
    settings = Settings(target="app:app")
    assert settings.bind == ("127.0.0.1:8000",)
    assert settings.workers == 1
    assert settings.affinity == ()


@pytest.mark.parametrize(
    "target", ["app:app", "a.b.c:d.e", "_a:_b", "a1:b2", "über:größe"]
)
def test_target_of_names_is_accepted(target):
    """A target is what Python would call names."""
    assert Settings(target=target).target == target


@pytest.mark.parametrize(
    "target",
    [
        *("", "app", "app:", ":app", "app/x.py:app", "a b:c", "a:b:c"),
        *("1a:b", "a..b:c", ".a:b", "a:b.", "a-b:c", "dir/app:app", "app:app\n"),
    ],
)
def test_target_that_is_no_name_is_refused(target):
    """A file name, a call or half a target is not guessed at."""
    assert refusal(target=target) == (
        f"target {target!r} is not module:attribute, as in app:app for the object"
        " `app` in app.py"
    )


@pytest.mark.parametrize("name", POLICIES)
def test_settings_say_of_a_policy_what_its_table_says(name):
    """Settings are read where the table is not loaded."""
    settings = Settings(target="app:app", policy=name)
    assert settings.remembers == POLICIES[name].remembers
    if not settings.remembers:
        assert "remembers no session" in refusal(policy=name, drain="sessions")


def test_command_may_be_anything():
    """What is run as it is needs no form."""
    assert Settings(target="./worker --fast", exec=True).exec


@pytest.mark.parametrize("workers", [0, -1, MOST_WORKERS + 1])
def test_impossible_number_of_workers_is_refused(workers):
    """The sentence says what is possible."""
    assert refusal(workers=workers) == (
        f"--workers {workers}: between 1 and 1024 are possible"
    )


@pytest.mark.parametrize("workers", [1, MOST_WORKERS])
def test_bounds_of_workers_are_possible(workers):
    """What the sentence says is true."""
    assert Settings(target="app:app", workers=workers).workers == workers


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("backlog", "--backlog"),
        ("window", "--window"),
        ("max_keys", "--max-keys"),
        ("head_limit", "--head-limit"),
        ("max_waiting", "--max-waiting"),
    ],
)
def test_nothing_of_something_is_refused(name, spelled):
    """Every count has to be one at least."""
    assert refusal(**{name: 0}) == f"{spelled} 0: at least 1 is needed"
    assert getattr(Settings(**{"target": "app:app", name: 1}), name) == 1


def test_bytes_of_keys_may_follow_their_number():
    """0 does; less than that is nothing."""
    assert Settings(target="app:app", max_key_bytes=0).max_key_bytes == 0
    assert refusal(max_key_bytes=-1) == (
        "--max-key-bytes -1: 0 for 512 for each of --max-keys, or a number of bytes"
    )


@pytest.mark.parametrize(("most", "fits"), [(-1, False), (0, True), (1, True)])
def test_limit_for_a_source_may_be_none(most, fits):
    """0 is no limit; less than that is nothing."""
    if fits:
        assert Settings(target="app:app", max_per_source=most).max_per_source == most
    else:
        assert refusal(max_per_source=most) == (
            "--max-per-source -1: 0 for no limit, or a number of connections"
        )


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("key_ttl", "--key-ttl"),
        ("head_timeout", "--head-timeout"),
        ("wait_timeout", "--wait-timeout"),
        ("ready_timeout", "--ready-timeout"),
        ("drain_timeout", "--drain-timeout"),
        ("grace_period", "--grace-period"),
        ("upgrade_timeout", "--upgrade-timeout"),
        ("timeout_keep_alive", "--timeout-keep-alive"),
    ],
)
@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0, "0"), (-1.5, "-1.5"), ("nan", "nan"), ("inf", "inf")]
)
def test_no_time_and_endless_time_are_refused(name, spelled, seconds, said):
    """Every wait is bounded, and long enough for something to happen."""
    assert refusal(**{name: float(seconds)}) == (
        f"{spelled} {said}: a number of seconds above 0 is needed"
    )
    assert getattr(Settings(**{"target": "app:app", name: 0.1}), name) == 0.1


@pytest.mark.parametrize("surge", ["", "0", "-1", "1.5", "some", "all ", "10000"])
def test_reload_of_nobody_at_a_time_is_refused(surge):
    """A number of workers, or all of them."""
    assert refusal(surge=surge) == (
        f"--surge {surge}: how many workers at a time, from 1 on, or all"
    )


@pytest.mark.parametrize("surge", ["all", "1", "20"])
def test_reload_of_some_or_all_at_a_time_is_possible(surge):
    """More than there are is no mistake."""
    assert Settings(target="app:app", surge=surge).surge == surge


@pytest.mark.parametrize("seconds", ["-1", "0.5", "1.9", "inf", "nan"])
def test_impatience_with_a_silent_worker_is_refused(seconds):
    """A heartbeat that is late for a moment says nothing."""
    assert refusal(hang_timeout=float(seconds)).startswith(
        f"--hang-timeout {float(seconds):g}: 0 for never, or at least 2"
    )


@pytest.mark.parametrize("seconds", [0, 2, 3600])
def test_patience_with_a_silent_worker_is_possible(seconds):
    """Or no judgement at all."""
    assert Settings(target="app:app", hang_timeout=seconds).hang_timeout == seconds


def test_every_number_is_checked():
    """A number that is added is checked, or stands here with its reason."""
    unchecked = set()
    for field in dataclasses.fields(Settings):
        if field.type in {"int", "float"}:
            try:
                Settings(**{"target": "app:app", field.name: -1})
            except UsageError:
                continue
            unchecked.add(field.name)
    assert unchecked == set()


def test_worker_settings_are_settings():
    """What travels to the worker is what the operator said, under the same names."""
    ours = {field.name: field.type for field in dataclasses.fields(Settings)}
    theirs = {field.name: field.type for field in dataclasses.fields(WorkerSettings)}
    assert theirs.items() <= ours.items()


@pytest.mark.parametrize("mode", ["", "8", "99", "rw", "66666", "0o660"])
def test_mode_that_is_not_octal_is_refused(mode):
    """The mode of a Unix socket is written in three or four octal digits."""
    with pytest.raises(UsageError) as refused:
        Settings(target="app:app", uds_permissions=mode)
    assert str(refused.value) == (
        f"--uds-permissions {mode}: octal digits are needed, as in 660"
    )


def test_trust_is_in_networks():
    """An address is a network of one; a network's host bits are zero."""
    trusted = ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32")
    settings = Settings(target="a:b", proxy_protocol="required", proxy_trust=trusted)
    assert settings.proxy_trust == trusted
    for text in ("10.0.0.1/8", "localhost", "", "10.0.0.0/33"):
        assert refusal(proxy_protocol="required", proxy_trust=(text,)).startswith(
            f"--proxy-trust {text} is no network, as in 10.0.0.0/8 or 2001:db8::1 ("
        )


def test_trust_for_nothing_is_refused():
    """Whoever names trusted balancers wants PROXY headers, and would not get them."""
    assert refusal(proxy_trust=("::1",)) == (
        "--proxy-trust needs --proxy-protocol required, or a --bind that ends in ,proxy"
    )
    Settings(target="a:b", bind=(":80", ":81,proxy"), proxy_trust=("::1",))


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        ({}, ""),
        ({"forwarded_allow_ips": "*"}, "*"),
        ({"proxy_protocol": "required"}, "none"),
        ({"bind": (":80", ":81,proxy")}, "none"),
        ({"proxy_protocol": "required", "forwarded_allow_ips": "::1"}, "::1"),
    ],
)
def test_there_is_one_truth_about_the_client(said, believed):
    """Where a PROXY header names the client, a request's headers do not as well."""
    assert Settings(target="a:b", **said).forwarded == believed


@pytest.mark.parametrize("kind", [Settings, WorkerSettings])
def test_settings_are_frozen(kind):
    """Nobody changes what the operator decided."""
    fields = {field.name: None for field in dataclasses.fields(WorkerSettings)}
    settings = Settings(target="a:b") if kind is Settings else WorkerSettings(**fields)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.target = "c:d"


def test_option_is_spelled_as_on_the_command_line():
    """Sentences name what the operator typed."""
    assert option("max_keys") == "--max-keys"


def test_certificate_needs_its_key():
    """As many of one as of the other."""
    assert refusal(certfile=("a", "b"), keyfile=("c",)) == (
        "2 times --certfile and 1 times --keyfile: each certificate needs its key, in"
        " the same order"
    )


def test_name_in_the_hello_needs_tls():
    """Without a certificate there is no hello."""
    assert refusal(affinity=("sni",)) == (
        "--affinity sni looks at the TLS hello: give --certfile and --keyfile"
    )
    Settings(target="a:a", affinity=("sni",), certfile=("c",), keyfile=("k",))


def test_worker_of_ones_own_ends_no_tls():
    """It could not know that it has to."""
    assert refusal(target="./w", exec=True, certfile=("c",), keyfile=("k",)) == (
        "--certfile with --exec: a worker of your own cannot be told of it; end TLS in"
        " front of maitred"
    )


REACHABLE = (
    "--admin {} can be reached from elsewhere: give --admin-token-file, or an address"
    " of this machine alone, as in 127.0.0.1:9900"
)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"admin": "nonsense"},
            "--admin nonsense is not host:port, [v6]:port or unix:/path",
        ),
        (
            {"admin": "127.0.0.1:65536"},
            "--admin 127.0.0.1:65536 is not host:port, [v6]:port or unix:/path",
        ),
        (
            {"admin_token_file": "/run/token"},
            "--admin-token-file needs --admin: who would ask?",
        ),
        *(
            (
                {"admin": address},
                REACHABLE.format(address),
            )
            for address in (":9900", "0.0.0.0:9900", "[::]:9900", "example.org:9900")
        ),
    ],
)
def test_admin_that_anybody_could_ask_is_refused(settings, sentence):
    """What others can reach needs a token; what is no address is none."""
    assert refusal(**settings) == sentence


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:9900",
        "127.8.9.1:0",
        "[::1]:9900",
        "localhost:9900",
        "unix:/run/a.sock",
    ],
)
def test_admin_of_this_machine_needs_no_token(address):
    """Only this machine can ask there."""
    assert Settings(target="app:app", admin=address).admin == address


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"max_requests": -1}, "--max-requests -1: a number of requests is needed"),
        (
            {"max_requests": 9, "max_requests_jitter": -2},
            "--max-requests-jitter -2: a number of requests is needed",
        ),
        ({"max_requests_jitter": 9}, "--max-requests-jitter needs --max-requests"),
        (
            {"max_requests": 9, "drain": "sessions"},
            "--max-requests with --drain sessions: a worker that is replaced alone",
        ),
    ],
)
def test_number_of_requests_makes_sense(said, sentence):
    """And ends no session that was to be kept."""
    assert refusal(**said).startswith(sentence)
