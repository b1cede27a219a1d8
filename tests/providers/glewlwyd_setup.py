"""What glewlwyd holds, made by its own API: one user, one confidential client, tokens of the plugin `oidc`.
glewlwyd_setup.py URL: reads what is to be made as JSON from its input."""

import json
import sys
import urllib.request

# As Debian's schema makes it.
FIRST_ADMINISTRATOR = {"username": "admin", "password": "password"}


class Api:
    """One session; its cookie is for https, so it is carried by hand."""

    def __init__(self, url: str, login: dict):
        self.url, self.cookie = url, ""
        answer = self.ask("POST", "auth/", login)
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]

    def ask(self, method: str, path: str, body: dict):
        headers = {"Content-Type": "application/json", "Cookie": self.cookie}
        request = urllib.request.Request(f"{self.url}/api/{path}", json.dumps(body).encode(), headers, method=method)
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read().decode()}")


def main(url: str) -> None:
    wanted = json.load(sys.stdin)
    administrator = Api(url, FIRST_ADMINISTRATOR)
    password = {"old_password": FIRST_ADMINISTRATOR["password"], "password": wanted["administrator_password"]}
    administrator.ask("PUT", "profile/password", password)
    for name in ("read", "write"):
        administrator.ask("POST", "scope/", {"name": name, "display_name": name, "password_required": False})
    user = {"username": wanted["user"]["name"], "password": wanted["user"]["password"]}
    scopes = ["openid", "read", "write"]
    administrator.ask("POST", "user/", {**user, "scope": [*scopes, "g_profile"], "enabled": True})
    client = wanted["client"]
    administrator.ask("POST", "client/", {
        "client_id": client["id"], "password": client["secret"], "client_secret": client["secret"],
        "confidential": True, "enabled": True, "scope": scopes, "redirect_uri": [client["redirect_uri"]],
        "authorization_type": ["code", "password", "client_credentials", "refresh_token", "device_authorization"],
        "token_endpoint_auth_method": ["client_secret_basic", "client_secret_post"],
    })  # fmt: skip
    administrator.ask("POST", "mod/plugin/", {
        "module": "oidc", "name": "oidc", "display_name": "oidc", "enabled": True,
        "parameters": {
            "iss": wanted["issuer"], "jwt-type": "ecdsa", "jwt-key-size": "256",
            "key": wanted["key"], "cert": wanted["public_key"],
            "access-token-duration": 300, "refresh-token-duration": 3600, "code-duration": 60,
            "refresh-token-rolling": True, "refresh-token-one-use": "always", "allow-non-oidc": True,
            "auth-type-code-enabled": True, "auth-type-code-revoke-replayed": True, "auth-type-password-enabled": True,
            "auth-type-client-enabled": True, "auth-type-refresh-enabled": True, "auth-type-device-enabled": True,
            "pkce-allowed": True, "pkce-method-plain-allowed": False, "introspection-revocation-allowed": True,
            "introspection-revocation-allow-target-client": True, "device-authorization-expiration": 600,
            "device-authorization-interval": 1, "jwks-show": True, "oauth-dpop-allowed": False,
        },
    })  # fmt: skip
    Api(url, user).ask("PUT", f"auth/grant/{client['id']}", {"scope": " ".join(scopes)})


if __name__ == "__main__":
    main(*sys.argv[1:])
