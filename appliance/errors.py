"""Errors of settings, users and the web server; store, jobs, watch folders and maintenance have their own.

ApplianceError (a RelumeError)
├── SettingsError             a setting is unknown or invalid (also a ValueError)
├── AccountError              a user, login or token is not accepted (also a ValueError)
│   ├── AccountNotFoundError  no such user or token (also a LookupError)
│   ├── LoginError            wrong user name or password
│   └── TooManyLoginsError    too many failed logins; has the time to wait
├── MailError                 an e-mail cannot be sent
├── UploadError               an upload is not accepted (also a ValueError)
│   ├── UploadNotFoundError   the user has no such upload (also a LookupError)
│   └── UploadSpaceError      too large, or not enough disk space (also an OSError)
├── OwnPresetError            a saved preset is not accepted (also a ValueError)
│   └── OwnPresetNotFoundError  no such saved preset (also a LookupError)
└── WebhookError              a webhook is not accepted (also a ValueError)
    └── WebhookNotFoundError  no such webhook (also a LookupError)
"""

from runtime.errors import RelumeError


class ApplianceError(RelumeError):
    """Base class of the errors that the appliance adds to those of the runtime.

    `code` identifies the error for programs if the class is not specific enough; `field` is the form field with the
    error.
    """

    def __init__(self, message: str = "", *, code: str = "", field: str = "") -> None:
        super().__init__(message)
        self.code, self.field = code, field


class SettingsError(ApplianceError, ValueError):
    """A setting is unknown or invalid."""


class AccountError(ApplianceError, ValueError):
    """A user, login or token is not accepted."""


class AccountNotFoundError(AccountError, LookupError):
    """No such user or token."""


class LoginError(AccountError):
    """Wrong user name or password."""


class TooManyLoginsError(AccountError):
    """Too many failed logins; `retry_after_s` is the time to wait."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UploadError(ApplianceError, ValueError):
    """An upload is not accepted."""


class UploadNotFoundError(UploadError, LookupError):
    """The user has no such upload."""


class UploadSpaceError(UploadError, OSError):
    """The upload is too large, or there is not enough disk space."""


class OwnPresetError(ApplianceError, ValueError):
    """A saved preset is not accepted."""


class OwnPresetNotFoundError(OwnPresetError, LookupError):
    """No such saved preset."""


class MailError(ApplianceError):
    """An e-mail cannot be sent."""


class WebhookError(ApplianceError, ValueError):
    """A webhook is not accepted."""


class WebhookNotFoundError(WebhookError, LookupError):
    """No such webhook."""
