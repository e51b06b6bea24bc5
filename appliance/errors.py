"""Errors of settings, accounts and the web server; the store, the queue and the folders have their own beside them.

ApplianceError (a RelumeError)
├── SettingsError             a setting is unknown or outside its bounds (also a ValueError)
├── AccountError              an account, a log-in or a token is refused (also a ValueError)
│   ├── AccountNotFoundError  there is no such account or token (also a LookupError)
│   ├── LoginError            the name or the password is wrong
│   └── TooManyLoginsError    too many log-ins failed; it says when to try again
├── MailError                 an e-mail cannot be sent
├── UploadError               an upload is refused (also a ValueError)
│   ├── UploadNotFoundError   this user has no such upload (also a LookupError)
│   └── UploadSpaceError      too large, or the disk has no room (also an OSError)
├── OwnPresetError            a saved preset is refused (also a ValueError)
│   └── OwnPresetNotFoundError  there is no such saved preset (also a LookupError)
└── WebhookError              a webhook is refused (also a ValueError)
    └── WebhookNotFoundError  there is no such webhook (also a LookupError)
"""

from runtime.errors import RelumeError


class ApplianceError(RelumeError):
    """Root of every error that the appliance adds to those of the runtime.

    `code` is for programs, where the class alone says too little; `field` names the field of a form that is meant.
    """

    def __init__(self, message: str = "", *, code: str = "", field: str = "") -> None:
        super().__init__(message)
        self.code, self.field = code, field


class SettingsError(ApplianceError, ValueError):
    """A setting is unknown or outside its bounds."""


class AccountError(ApplianceError, ValueError):
    """An account, a log-in or a token is refused."""


class AccountNotFoundError(AccountError, LookupError):
    """There is no such account or token."""


class LoginError(AccountError):
    """The name or the password is wrong."""


class TooManyLoginsError(AccountError):
    """Too many log-ins failed; `retry_after_s` says when to try again."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UploadError(ApplianceError, ValueError):
    """An upload is refused."""


class UploadNotFoundError(UploadError, LookupError):
    """This user has no such upload."""


class UploadSpaceError(UploadError, OSError):
    """The upload is too large, or the disk has no room for it."""


class OwnPresetError(ApplianceError, ValueError):
    """A saved preset is refused."""


class OwnPresetNotFoundError(OwnPresetError, LookupError):
    """There is no such saved preset."""


class MailError(ApplianceError):
    """An e-mail cannot be sent."""


class WebhookError(ApplianceError, ValueError):
    """A webhook is refused."""


class WebhookNotFoundError(WebhookError, LookupError):
    """There is no such webhook."""
