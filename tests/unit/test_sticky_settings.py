"""What our own cookie is to be like: what no browser keeps is refused at the start."""

import pytest

from maitred.config import Settings
from maitred.errors import UsageError

HOST = ("sticky:__Host-maitred",)
ONE_HOST = (
    "--affinity sticky:__Host-maitred: browsers keep a cookie of that name only for one"
    " host and all its paths"
)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"sticky_domain": "a b"}, "--sticky-domain 'a b' is no domain"),
        ({"sticky_domain": "a;b"}, "--sticky-domain 'a;b' is no domain"),
        ({"sticky_path": "shop"}, "--sticky-path 'shop': a path that begins with /"),
        ({"sticky_path": "/a; Secure"}, "--sticky-path '/a; Secure': a path that"),
        ({"sticky_path": "/a\r\nx"}, "--sticky-path '/a\\r\\nx': a path that"),
        ({"sticky_max_age": -1}, "--sticky-max-age -1: a number of seconds"),
        (
            {"sticky_same_site": "none", "sticky_secure": "never"},
            "--sticky-same-site none with --sticky-secure never",
        ),
        ({"affinity": HOST}, "--affinity sticky:__Host-maitred: browsers keep"),
        (
            {"affinity": HOST, "sticky_secure": "always", "sticky_path": "/shop"},
            ONE_HOST,
        ),
        (
            {"affinity": HOST, "sticky_secure": "always", "sticky_domain": "a.org"},
            ONE_HOST,
        ),
        (
            {"affinity": ("sticky:__secure-x",)},
            "--affinity sticky:__secure-x: browsers",
        ),
    ],
)
def test_cookie_that_no_browser_keeps_is_refused(said, complaint):
    """One sentence, which names the option."""
    with pytest.raises(UsageError) as refused:
        Settings(target="a:b", **said)
    assert str(refused.value).startswith(complaint)


@pytest.mark.parametrize(
    "said",
    [
        {"affinity": HOST, "sticky_secure": "always"},
        {"affinity": HOST, "sticky_same_site": "none"},
        {
            "affinity": ("sticky:__Secure-x",),
            "sticky_secure": "always",
            "sticky_domain": "example.org",
            "sticky_path": "/shop",
        },
        {"sticky_domain": ".example.org", "sticky_path": "/a/b", "sticky_max_age": 1},
        {"sticky_same_site": "none", "sticky_secure": "auto"},
    ],
)
def test_cookie_that_browsers_keep_is_not_refused(said):
    """With the prefixes of RFC 6265bis, too."""
    Settings(target="a:b", **said)
