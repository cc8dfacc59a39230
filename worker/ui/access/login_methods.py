"""How people get in: with a password, by the site's identity provider, or, from this machine alone, without either."""

from __future__ import annotations

from dataclasses import dataclass

from worker.errors import StartRefused
from worker.process.up import check_port
from worker.settings.settings import Settings
from worker.ui.access.people import People
from worker.ui.access.single_sign_on import Provider, read_provider


@dataclass(frozen=True, slots=True)
class LoginMethods:
    """Every way in that this site has set."""

    people: People | None = None
    provider: Provider | None = None

    @property
    def is_open(self) -> bool:
        """Whether whoever reaches the page may look."""
        return self.people is None and self.provider is None

    @property
    def is_behind_tls(self) -> bool:
        """Whether the page is known to be entered over TLS alone."""
        return self.provider is not None and self.provider.settings.page.startswith("https:")


def check_page(settings: Settings) -> LoginMethods:
    """Return the methods in; none where only this machine reaches the page and no login is wanted.

    Raises
    ------
    worker.errors.StartRefused
        The page would show patients to whoever reaches it, or its port or one of its files cannot be used.
    """
    methods = LoginMethods(
        None if settings.ui_password_file is None else People(settings.ui_password_file),
        None if settings.ui_login_file is None else Provider(read_provider(settings.ui_login_file)),
    )
    if methods.is_open and not settings.ui_is_local:
        raise StartRefused(
            f"the page would listen on {settings.ui_host} and show patients to everybody there: make people with "
            "`bonewatch page-password` and set BONEWATCH_UI_PASSWORD_FILE, or set BONEWATCH_UI_LOGIN_FILE, or leave "
            "BONEWATCH_UI_HOST unset"
        )
    check_port(settings.ui_host, settings.ui_port, "BONEWATCH_UI_PORT")
    if methods.people is not None:
        methods.people.find("")
    return methods
